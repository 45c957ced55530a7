use std::sync::Mutex;

use super::*;

#[test]
fn it_offers_and_reports_both_events() {
    let seen = Arc::new(Mutex::new(vec![]));
    let log = seen.clone();
    let device = Pvpanic::new(Arc::new(move |event| log.lock().unwrap().push(event)));
    assert_eq!(device.read(0, 1), Ok(3));
    assert_eq!(device.read(1, 1), Ok(0));
    for (offset, value) in [(0, 0), (0, 1), (1, 1), (0, 2), (0, 4), (0, 0xff)] {
        device.write(offset, 1, value).unwrap();
    }
    use PanicEvent::{CrashLoaded, Panicked};
    assert_eq!(*seen.lock().unwrap(), [Panicked, CrashLoaded, Panicked, CrashLoaded]);
    let saved = device.save();
    device.load(&saved).unwrap();
    device.reset();
    assert!(device.load(&Value::Null).is_err());
}
