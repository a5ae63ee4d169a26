//! Seed 001, "/share", "/config" and "/ssl": a JSON export that other programs never see half-written, a CSV import if
//! there is one, and files of the host that are read if they are there and never written.

use std::{error::Error, fs, io, path::Path};

use tierce::ops;

/// The text of a file that may not be there. Any other trouble is an error: an unreadable file is not a missing one.
fn read_if_there(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The `name: value` lines of a file; enough for a secrets file.
fn pairs(yaml: &str) -> impl Iterator<Item = (&str, &str)> {
    yaml.lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.trim(), value.trim()))
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let (share, config, ssl) =
        (dir.path().join("share"), dir.path().join("config"), dir.path().join("ssl"));
    for directory in [&share, &config] {
        fs::create_dir(directory)?;
    }

    // Export: others see the old file or the new one, and may read it as they may any new file.
    let export = share.join("my_addon_export.json");
    ops::atomic_write(&export, serde_json::to_vec(&serde_json::json!({"events": 3}))?)?;
    assert_eq!(fs::read_to_string(export)?, r#"{"events":3}"#);

    // Import, if there is something to.
    let import = share.join("other_addon_data.csv");
    assert_eq!(read_if_there(&import)?, None);
    fs::write(&import, "sensor,value\nkitchen,21.5\nhall,19\n")?;
    let table = read_if_there(&import)?.unwrap_or_default();
    let rows = table.lines().skip(1).filter_map(|line| line.split_once(','));
    let values: Vec<f64> = rows.map(|(_, value)| value.parse()).collect::<Result<_, _>>()?;
    assert_eq!(values, [21.5, 19.0]);

    // The host's configuration and secrets.
    assert_eq!(read_if_there(&config.join("configuration.yaml"))?, None);
    fs::write(config.join("secrets.yaml"), "wifi_password: hunter2\n")?;
    let secrets = read_if_there(&config.join("secrets.yaml"))?.unwrap_or_default();
    assert!(pairs(&secrets).any(|pair| pair == ("wifi_password", "hunter2")));

    // Certificates: without the directory, the program serves without them.
    assert_eq!(read_if_there(&ssl.join("fullchain.pem"))?, None);
    Ok(())
}
