//! Seed 001, "Configuration Files": settings that are loaded if the file is there and saved by each change, for people
//! to read; and what happens to a file that a power cut has damaged.

use std::{error::Error, fs};

use tierce::ops::ConfigDocument;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("config.json");

    let mut config = ConfigDocument::open(&path)?;
    assert_eq!(config.get_or("scan_interval", 60)?, 60);
    config.set("scan_interval", &30)?;
    config.set("entities", &["light.kitchen", "light.hall"])?;
    assert!(fs::read_to_string(&path)?.starts_with("{\n  \"entities\": [\n"));

    // A restart.
    let config = ConfigDocument::open(&path)?;
    assert_eq!(config.get_or("scan_interval", 60)?, 30);
    assert_eq!(config.get::<Vec<String>>("entities")?.map(|entities| entities.len()), Some(2));

    // Damage is kept for a look at it, and said.
    fs::write(&path, "{\"scan_inter")?;
    let config = ConfigDocument::open(&path)?;
    assert!(config.damage().is_some_and(|damage| damage.to_string().contains(".corrupt-")));
    assert_eq!(config.get_or("scan_interval", 60)?, 60);
    Ok(())
}
