//! Checkpoints that cannot be published.

use std::path::Path;

use tierce_engine::Options;
use tierce_kit::{
    fault::{CallKind, EIO, Fault},
    recorder::RecordingDisk,
};

/// Goal: a checkpoint that the manifest could not be made to name does not stay: nothing would count its bytes. Method: the
/// sync of the manifest behind it fails, once and for good; nothing but what is named is there in the end.
#[test]
fn one_that_is_not_named_does_not_stay() {
    for lasting in [false, true] {
        let disk = RecordingDisk::new();
        let options = || Options::new().disk(disk.clone()).background(false).segment_bytes(8 << 10);
        let engine = options().open("store").unwrap();
        for number in 0..40_u8 {
            engine.put([number], [number; 600]).unwrap();
        }
        engine.checkpoint().unwrap();
        let checkpoints = || {
            let paths = disk.paths().into_iter();
            paths.filter(|path| path.extension().is_some_and(|e| e == "ckpt")).count()
        };
        assert_eq!(checkpoints(), 1);
        engine.put("more", "v").unwrap();
        engine.sync().unwrap();
        // The file of the checkpoint itself is synced first, then the manifest.
        let fault = Fault::nth(2, EIO).of(&[CallKind::Sync]);
        disk.arm(if lasting { fault.lasting() } else { fault });
        assert!(engine.checkpoint().is_err());
        disk.disarm();
        assert!(lasting || checkpoints() == 1, "{} checkpoints", checkpoints());
        drop(engine);
        let engine = options().open(Path::new("store")).unwrap();
        assert_eq!(engine.iter().unwrap().count(), 41);
        assert_eq!(checkpoints(), 1);
    }
}
