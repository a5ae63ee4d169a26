//! Settings: what the documents' files and variables mean, layers, and complaints that help.

use tierce::{
    Config, Error, Ttl,
    config::{Origin, Table},
    engine::{Durability, Evict},
};

fn complaints(result: tierce::Result<impl std::fmt::Debug>) -> Vec<String> {
    match result.unwrap_err() {
        Error::Options { complaints, .. } => complaints,
        other => panic!("{other}"),
    }
}

const NO_VARIABLES: [(&str, &str); 0] = [];

/// Goal: the global configuration of the first document, as it stands there, in a table with strangers' keys.
#[test]
fn hassette_toml() {
    let text = "[hassette]\ndefault_cache_size = 104857600  # 100 MiB (default)\ndata_dir = \"/path/to/data\"\n\
                base_url = 'http://x'\n[logging]\nlevel = \"DEBUG\"\n";
    let config = Config::from_toml_str(text, Table::foreign("hassette")).unwrap();
    assert_eq!(config.size_limit(), 104_857_600);
    let config = config.merge(Config::new().with_class_name("MyApp"));
    assert_eq!(config.directory().unwrap().to_str(), Some("/path/to/data/MyApp/cache"));
    config.validate().unwrap();

    let found = complaints(Config::from_toml_str(text, "hassette"));
    assert_eq!(found, ["`hassette.base_url`: there is no such setting"]);
    assert_eq!(
        Config::from_toml_str("", Table::foreign("hassette")).unwrap().size_limit(),
        100 << 20
    );
}

/// Goal: the variables of the third document, as they stand there.
#[test]
fn env_file_of_the_guide() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(".env");
    std::fs::write(
        &path,
        "# Cache Configuration\nCACHE_DIRECTORY=tmp/cache\nCACHE_SIZE_LIMIT=524288000      # 500MB\n\
         CACHE_CONTENT_TTL=0             # 0 = no expiry\nCACHE_SEARCH_TTL=300            # 5 minutes\n\
         OTHER_TOKEN=secret\n",
    )
    .unwrap();
    let config = Config::from_env_file(&path, "CACHE_").unwrap();
    config.validate().unwrap();
    assert_eq!(config.directory().unwrap().to_str(), Some("tmp/cache"));
    assert_eq!(config.size_limit(), 500 * 1024 * 1024);
    assert_eq!(
        config.ttls().collect::<Vec<_>>(),
        [("content", Ttl::Never), ("search", Ttl::minutes(5))]
    );
    assert_eq!(config.ttl_of("other"), Ttl::Default);
    let origin =
        Origin::VariableFile { file: path, line: 3, variable: "CACHE_SIZE_LIMIT".to_owned() };
    assert_eq!(config.origin("size_limit"), origin);
}

#[test]
fn defaults_depend_on_the_form() {
    let env = Config::from_vars("CACHE_", NO_VARIABLES).unwrap();
    assert_eq!(
        (env.size_limit(), env.directory().unwrap().to_str()),
        (500 << 20, Some("tmp/cache"))
    );
    // An empty variable counts as not set.
    let empty = [("CACHE_DIRECTORY", ""), ("CACHE_SIZE_LIMIT", " ")];
    assert_eq!(Config::from_vars("CACHE_", empty).unwrap(), env);

    let plain = Config::new();
    assert_eq!((plain.size_limit(), plain.ttl_of("x")), (100 << 20, Ttl::Default));
    assert_eq!(complaints(plain.directory()), ["no directory is set, nor data_dir and class_name"]);
    assert_eq!(plain.origin("directory"), Origin::Default);
    // Defaults of an upper layer set nothing: the environment brings no directory into a file's configuration.
    let merged = plain.merge(env);
    assert!(merged.directory().is_err());
    assert_eq!(merged.size_limit(), 100 << 20);
}

/// Goal: defaults < TOML < environment < code, setting by setting, each with its origin.
#[test]
fn layers() {
    let file = "[cache]\ndirectory = 'a'\nsize_limit = '1 GiB'\nmax_entries = 7\ndefault_ttl = 60\n\
                durability = 'sync'\nevict = 's3-fifo'\nmin_free_bytes = '10 MiB'\nttl = { a = 1, b = 2 }";
    let variables = [("CACHE_DIRECTORY", "b"), ("CACHE_MAX_ENTRIES", "8"), ("CACHE_B_TTL", "20")];
    let config = Config::from_toml_str(file, "cache")
        .unwrap()
        .merge(Config::from_vars("CACHE_", variables).unwrap())
        .merge(Config::new().with_directory("c").with_evict(Evict::Fifo).with_ttl("c", Ttl::Never));
    config.validate().unwrap();
    assert_eq!(config.directory().unwrap().to_str(), Some("c"));
    assert_eq!((config.size_limit(), config.max_entries()), (1 << 30, Some(8)));
    assert_eq!(
        ["a", "b", "c", "d"].map(|space| config.ttl_of(space)),
        [Ttl::seconds(1), Ttl::seconds(20), Ttl::Never, Ttl::minutes(1),]
    );
    let origins =
        ["directory", "max_entries", "size_limit", "ttl.a", "ttl.b", "data_dir", "nonsense"];
    assert_eq!(
        origins.map(|name| config.origin(name).to_string()),
        [
            "the code",
            "CACHE_MAX_ENTRIES",
            "`cache.size_limit`",
            "`cache.ttl.a`",
            "CACHE_B_TTL",
            "the default",
            "the default",
        ]
    );

    let options = config.engine_options();
    assert_eq!((options.durability, options.evict), (Durability::Sync, Evict::Fifo));
    assert_eq!((options.max_bytes, options.max_entries), (Some(1 << 30), Some(8)));
    assert_eq!(options.min_free_bytes, 10 << 20);
    options.validate().unwrap();
}

/// Goal: everything wrong with a file is told at once, by key, and no value is shown.
#[test]
fn complaints_about_toml() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("my.toml");
    let text = "[cache]\nsize_limit = 'hunter2'\nevcit = 'lru'\nmax_entries = -1\ndirectory = 5\nttl = 5\n";
    std::fs::write(&path, text).unwrap();
    let found = complaints(Config::from_toml_file(&path, "cache"));
    let file = path.display();
    let wanted = [
        format!("`cache.directory` in {file}: a path is wanted"),
        format!("`cache.evcit` in {file}: there is no such setting; is `evict` meant?"),
        format!("`cache.max_entries` in {file}: a whole number from 0 on is wanted"),
        format!("`cache.size_limit` in {file}: a size is wanted"),
        format!("`cache.ttl` in {file}: a table of lifetimes is wanted"),
    ];
    assert_eq!(found.len(), wanted.len(), "{found:#?}");
    for wanted in wanted {
        assert!(
            found.iter().any(|complaint| complaint.starts_with(&wanted)),
            "{wanted}: {found:#?}"
        );
    }
    assert!(!found.join("").contains("hunter2"));

    let found = complaints(Config::from_toml_str("[cache]\n\npassword = hunter2\n", "cache"));
    assert_eq!(found, ["line 3 is no TOML"]);
    let found = complaints(Config::from_toml_str("cache = 5", "cache"));
    assert_eq!(found, ["`cache` is no table"]);
    let twice = "size_limit = 100_000_000\ndefault_cache_size = 200_000_000";
    let found = complaints(Config::from_toml_str(twice, ""));
    assert_eq!(found, ["`size_limit`: it is set already, by `default_cache_size`"]);
    let error = Config::from_toml_file(dir.path().join("none.toml"), "cache").unwrap_err();
    assert_eq!(error.kind(), "io");
}

#[test]
fn complaints_about_variables() {
    let variables = [
        ("CACHE_SIZE_LIMIT", "hunter2"),
        ("CACHE_SEARCH_TTL", "-1"),
        ("CACHE_EVICT", "x"),
        ("CACHE_URL", "x"),
    ];
    let found = complaints(Config::from_vars("CACHE_", variables));
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(found[0].starts_with("CACHE_SIZE_LIMIT: a size"), "{found:#?}");
    assert!(found[1].starts_with("CACHE_SEARCH_TTL: a time"), "{found:#?}");
    assert!(found[2].starts_with("CACHE_EVICT: one of lru"), "{found:#?}");
    assert!(!found.join("").contains("hunter2"));

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(".env");
    std::fs::write(
        &path,
        "hunter2\r\nCACHE_MAX_ENTRIES=1\r\nCACHE_MAX_ENTRIES=2\r\nCACHE_EVICT='lru\r\n",
    )
    .unwrap();
    let found = complaints(Config::from_env_file(&path, "CACHE_"));
    let file = path.display();
    assert_eq!(
        found,
        [
            format!("{file}, line 1: it is no NAME=value"),
            format!("{file}, line 4: a quote is not closed"),
        ]
    );
    std::fs::write(&path, "CACHE_MAX_ENTRIES=1\nCACHE_MAX_ENTRIES=2\n").unwrap();
    assert_eq!(
        Config::from_env_file(&path, "CACHE_").unwrap().max_entries(),
        Some(2),
        "the later one counts"
    );
}

/// Goal: settings that cannot work are told all at once, each with where it comes from.
#[test]
fn validation() {
    let config =
        Config::from_toml_str("data_dir = '~/data'\nclass_name = '../x'\nsize_limit = 5", "")
            .unwrap()
            .merge(Config::from_vars("C_", [("C_MAX_ENTRIES", "0")]).unwrap());
    let found = complaints(config.validate());
    assert_eq!(found.len(), 4, "{found:#?}");
    for (complaint, start) in found.iter().zip([
        "`class_name`: the name `../x` cannot be used",
        "`data_dir`: `~` is not replaced",
        "`size_limit`: max_bytes is 5",
        "C_MAX_ENTRIES: a limit of 0",
    ]) {
        assert!(complaint.starts_with(start), "{complaint}");
    }
    let found = complaints(Config::new().with_data_dir("x").validate());
    assert_eq!(found, ["data_dir is set, but no class_name below it"]);
    let found = complaints(Config::new().with_directory("").validate());
    assert_eq!(found, ["the code: directory is empty"]);
}

/// Goal: the settings reach a store that works, and nothing is created before it is opened.
#[test]
fn opens_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::new().with_data_dir(dir.path().join("data")).with_class_name("WeatherApp");
    config.validate().unwrap();
    let directory = config.directory().unwrap();
    assert!(!dir.path().join("data").exists());
    let engine = config.engine_options().background(false).open(&directory).unwrap();
    engine.put("a", "1").unwrap();
    engine.close().unwrap();
    assert!(directory.ends_with("data/WeatherApp/cache") && directory.is_dir());
}
