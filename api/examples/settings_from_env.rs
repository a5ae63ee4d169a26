//! Seed 002, "Environment Variables" and "Using with Settings"; seed 000, "Configuration": the same settings from an
//! `.env` file, from a table of a TOML file that others use too, and from code, on top of each other.

use std::{error::Error, fs};

use tierce::{Config, Ttl, config::Table};

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    fs::write(
        dir.path().join(".env"),
        "# Cache Configuration\n\
         CACHE_DIRECTORY=tmp/cache\n\
         CACHE_SIZE_LIMIT=524288000      # 500MB\n\
         CACHE_CONTENT_TTL=0             # 0 = no expiry\n\
         CACHE_SEARCH_TTL=300            # 5 minutes\n",
    )?;
    let env = Config::from_env_file(dir.path().join(".env"), "CACHE_")?;
    assert_eq!(env.directory()?.to_str(), Some("tmp/cache"));
    assert_eq!(env.size_limit(), 500 * 1024 * 1024);
    assert_eq!(env.ttl_of("content"), Ttl::Never);
    assert_eq!(env.ttl_of("search"), Ttl::minutes(5));
    // Without a single variable, the defaults are the same.
    let bare = Config::from_vars("CACHE_", [("PATH", "/bin")])?;
    assert_eq!((bare.directory()?, bare.size_limit()), (env.directory()?, env.size_limit()));

    fs::write(
        dir.path().join("hassette.toml"),
        "[hassette]\ndefault_cache_size = 104857600  # 100 MiB (default)\ndata_dir = \"/path/to/data\"\n",
    )?;
    let toml =
        Config::from_toml_file(dir.path().join("hassette.toml"), Table::foreign("hassette"))?;
    let config = toml.merge(Config::new().with_class_name("WeatherApp"));
    config.validate()?;
    assert_eq!(config.size_limit(), 100 * 1024 * 1024);
    assert_eq!(config.directory()?.to_str(), Some("/path/to/data/WeatherApp/cache"));

    // The settings object feeds the store.
    let config = config.merge(env).merge(Config::new().with_directory(dir.path().join("cache")));
    assert_eq!(
        config.origin("data_dir").to_string().split(' ').next(),
        Some("`hassette.data_dir`")
    );
    let store = config.engine_options().open(config.directory()?)?;
    store.put("user:123", "John")?;
    store.close()?;
    assert!(dir.path().join("cache").is_dir());
    Ok(())
}
