//! The devices of the board and the bus that they sit on. Knows nothing of the engine that runs the guest.
