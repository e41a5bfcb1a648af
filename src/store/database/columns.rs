//! What differs between the schemas of Nix.

use rusqlite::Connection;

/// What this database's schema has.
#[derive(Debug, Clone)]
pub(super) struct Columns {
    /// The statement for a path info by hash part.
    pub(super) path_info: String,
    /// The statement for all paths: path, signatures, whether it was built here.
    pub(super) all: String,
}

impl Columns {
    pub(super) fn of(connection: &Connection) -> Result<Self, rusqlite::Error> {
        let mut statement = connection.prepare("select name from pragma_table_info('ValidPaths')")?;
        let names: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        let column = |name: &str| {
            if names.iter().any(|known| known == name) { format!("v.{name}") } else { "null".to_owned() }
        };
        // One statement is one snapshot: a path whose references are deleted under our hands is never seen half.
        let path_info = format!(
            "select v.id, v.path, v.hash, v.registrationTime, v.narSize, v.deriver, {}, {}, {}, t.path \
             from ValidPaths v left join Refs r on r.referrer = v.id left join ValidPaths t on t.id = r.reference \
             where v.path >= ?1 and v.path < ?2",
            column("ultimate"),
            column("sigs"),
            column("ca"),
        );
        let all = format!("select v.path, {}, {} from ValidPaths v", column("sigs"), column("ultimate"));
        Ok(Self { path_info, all })
    }
}
