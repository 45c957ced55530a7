use super::*;
use crate::virtio::spec::status;
use crate::virtio::testing::{BUFFERS, Rig};

#[test]
fn a_request_gets_at_most_a_page() {
    let mut rig = Rig::new(VirtioRng::new());
    rig.start(1, 0);
    rig.put(BUFFERS, &[0; 8192]);
    rig.submit(0, &[], &[(BUFFERS, 8192)]);
    assert_eq!(rig.used(0).1, 4096);
    let bytes = rig.get(BUFFERS, 8192);
    assert!(bytes[4000..4096].iter().any(|&b| b != 0));
    assert!(bytes[4096..].iter().all(|&b| b == 0));
    // Two answers are not alike.
    rig.submit(0, &[], &[(BUFFERS + 4096, 4096)]);
    rig.used(0);
    assert_ne!(rig.get(BUFFERS, 4096), rig.get(BUFFERS + 4096, 4096));
}

#[test]
fn no_room_is_no_error() {
    let mut rig = Rig::new(VirtioRng::new());
    rig.start(1, 0);
    rig.submit(0, &[(BUFFERS, 8)], &[]);
    assert_eq!(rig.used(0).1, 0);
    assert_eq!(rig.status() & status::DEVICE_NEEDS_RESET, 0);
}
