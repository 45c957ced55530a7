//! Register map of the PL011: Arm DDI 0183, "PrimeCell UART (PL011) Technical Reference Manual", chapter 3.

/// `UARTDR`: data, with the error bits of a received character in bits 11:8.
pub const DR: u64 = 0x000;
/// `UARTRSR` (read: errors of the character last read) and `UARTECR` (write: clears them).
pub const RSR: u64 = 0x004;
/// `UARTFR`: flags.
pub const FR: u64 = 0x018;
/// `UARTILPR`: low-power divisor of the infrared mode; stored, without effect.
pub const ILPR: u64 = 0x020;
/// `UARTIBRD`: integer baud rate divisor; stored, without effect.
pub const IBRD: u64 = 0x024;
/// `UARTFBRD`: fractional baud rate divisor; stored, without effect.
pub const FBRD: u64 = 0x028;
/// `UARTLCR_H`: line control.
pub const LCR_H: u64 = 0x02c;
/// `UARTCR`: control.
pub const CR: u64 = 0x030;
/// `UARTIFLS`: FIFO levels that raise interrupts.
pub const IFLS: u64 = 0x034;
/// `UARTIMSC`: interrupts that are let through.
pub const IMSC: u64 = 0x038;
/// `UARTRIS`: interrupts that are raised.
pub const RIS: u64 = 0x03c;
/// `UARTMIS`: interrupts that are raised and let through.
pub const MIS: u64 = 0x040;
/// `UARTICR`: clears interrupts.
pub const ICR: u64 = 0x044;
/// `UARTDMACR`: DMA control; stored, there is no DMA controller.
pub const DMACR: u64 = 0x048;
/// UARTPeriphID0..3: part 0x011, designer Arm, revision 1: FIFOs of 16.
pub const PERIPH_ID: [u8; 4] = [0x11, 0x10, 0x14, 0x00];

/// Depth of the receive FIFO.
pub const FIFO_DEPTH: usize = 16;

/// Framing error, parity error and break of a received character (`DR`; shifted down by 8 in `RSR`).
pub const DR_ERRORS: u16 = 7 << 8;
/// Break: the line was low for more than a character.
pub const DR_BE: u16 = 1 << 10;
/// Overrun: characters were lost before this one.
pub const DR_OE: u16 = 1 << 11;

/// Clear to send.
pub const FR_CTS: u32 = 1 << 0;
/// Data set ready.
pub const FR_DSR: u32 = 1 << 1;
/// Data carrier detect.
pub const FR_DCD: u32 = 1 << 2;
/// Receive FIFO empty.
pub const FR_RXFE: u32 = 1 << 4;
/// Receive FIFO full.
pub const FR_RXFF: u32 = 1 << 6;
/// Transmit FIFO empty: always, a character leaves at once (so TXFF, bit 5, and BUSY, bit 3, are never set).
pub const FR_TXFE: u32 = 1 << 7;
/// Ring indicator.
pub const FR_RI: u32 = 1 << 8;
/// The modem lines: nothing is connected to them, so they are 0 but for loop-back.
pub const FR_MODEM: u32 = FR_CTS | FR_DSR | FR_DCD | FR_RI;

/// Send break.
pub const LCR_BRK: u32 = 1 << 0;
/// FIFOs enabled; otherwise they are one character deep.
pub const LCR_FEN: u32 = 1 << 4;

/// Loop-back: what is sent is received.
pub const CR_LBE: u32 = 1 << 7;
/// Receive enable.
pub const CR_RXE: u32 = 1 << 9;
/// Data transmit ready; read as DSR in loop-back.
pub const CR_DTR: u32 = 1 << 10;
/// Request to send; read as CTS in loop-back.
pub const CR_RTS: u32 = 1 << 11;
/// Read as DCD in loop-back.
pub const CR_OUT1: u32 = 1 << 12;
/// Read as RI in loop-back.
pub const CR_OUT2: u32 = 1 << 13;
/// Bits of `CR` that exist.
pub const CR_FIELDS: u32 = 0xff87;
/// `CR` after reset: TXE, RXE.
pub const CR_RESET: u32 = 0x300;
/// `IFLS` after reset: both FIFOs half full.
pub const IFLS_RESET: u32 = 0x12;

/// nUARTRI changed.
pub const INT_RI: u32 = 1 << 0;
/// nUARTCTS changed.
pub const INT_CTS: u32 = 1 << 1;
/// nUARTDCD changed.
pub const INT_DCD: u32 = 1 << 2;
/// nUARTDSR changed.
pub const INT_DSR: u32 = 1 << 3;
/// The receive FIFO reached its level.
pub const INT_RX: u32 = 1 << 4;
/// The transmit FIFO fell to its level.
pub const INT_TX: u32 = 1 << 5;
/// Characters wait, but the FIFO does not reach its level.
pub const INT_RT: u32 = 1 << 6;
/// Overrun.
pub const INT_OE: u32 = 1 << 10;
/// All interrupts.
pub const INT_ALL: u32 = 0x7ff;
