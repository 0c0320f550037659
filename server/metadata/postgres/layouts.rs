//! What tables a PostgreSQL database has.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use super::failure;
use crate::metadata::MetadataError;
use crate::metadata::error::During;
use crate::metadata::layout::{self, Column, Index, Layout};
use crate::metadata::table::Kind;

/// Every table of the current schema, with columns in the order of the table. Those of a domain hold
/// what its base holds.
pub(in crate::metadata) async fn layouts(
    client: &Client,
    label: &str,
) -> Result<Vec<Layout>, MetadataError> {
    let failed = |error| {
        failure(
            During {
                action: "read its schema",
                backend: label,
            },
            &error,
        )
    };
    const COLUMNS: &str = "SELECT c.relname, a.attname, coalesce(b.typname, t.typname), \
         format_type(a.atttypid, a.atttypmod), \
         coalesce(array_position(string_to_array(i.indkey::text, ' '), a.attnum::text), 0)::int8 \
         FROM pg_class c \
         JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
         JOIN pg_type t ON t.oid = a.atttypid \
         LEFT JOIN pg_type b ON t.typtype = 'd' AND b.oid = (WITH RECURSIVE base AS ( \
             SELECT t.typbasetype AS oid \
             UNION ALL SELECT n.typbasetype FROM base JOIN pg_type n ON n.oid = base.oid \
                 WHERE n.typtype = 'd') \
             SELECT base.oid FROM base JOIN pg_type n ON n.oid = base.oid \
             WHERE n.typtype <> 'd') \
         LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary AND a.attnum = ANY(i.indkey) \
         WHERE c.relkind IN ('r', 'p') AND c.relnamespace = current_schema()::regnamespace \
         AND a.attgenerated = '' \
         ORDER BY c.relname, a.attnum";
    let rows = client.query(COLUMNS, &[]).await.map_err(failed)?;
    let mut tables: BTreeMap<String, FoundTable> = BTreeMap::new();
    for row in rows {
        let (table, name, type_name, declared): (String, String, String, String) =
            (row.get(0), row.get(1), row.get(2), row.get(3));
        let found = tables.entry(table.clone()).or_default();
        if row.get::<_, i64>(4) > 0 {
            found.key.push((row.get(4), found.columns.len()));
        }
        let kind = layout::kind_of(&table, &name, kind_of_type(&type_name));
        found.columns.push(Column {
            name,
            kind,
            declared,
        });
    }
    let mut indexes = indexes(client).await.map_err(failed)?;
    let layouts = tables.into_iter().map(|(name, mut found)| {
        found.key.sort_unstable();
        Layout {
            columns: found.columns,
            primary_key: found.key.into_iter().map(|(_, column)| column).collect(),
            indexes: indexes.remove(&name).unwrap_or_default(),
            name,
        }
    });
    Ok(layouts.collect())
}

#[derive(Default)]
struct FoundTable {
    columns: Vec<Column>,
    /// Rank within the primary key, and position in `columns`.
    key: Vec<(i64, usize)>,
}

/// Plain indexes on columns, by table.
async fn indexes(client: &Client) -> Result<BTreeMap<String, Vec<Index>>, tokio_postgres::Error> {
    const SQL: &str = "SELECT t.relname, x.relname, \
         array_agg(a.attname::text ORDER BY k.position) \
         FROM pg_index i \
         JOIN pg_class t ON t.oid = i.indrelid \
         JOIN pg_class x ON x.oid = i.indexrelid \
         CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, position) \
         JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.attnum \
         WHERE NOT i.indisunique AND i.indexprs IS NULL AND i.indpred IS NULL \
         AND t.relnamespace = current_schema()::regnamespace \
         GROUP BY t.relname, x.relname ORDER BY t.relname, x.relname";
    let rows = client.query(SQL, &[]).await?;
    let mut found: BTreeMap<String, Vec<Index>> = BTreeMap::new();
    for row in rows {
        let (table, name, columns) = (row.get(0), row.get(1), row.get(2));
        found
            .entry(table)
            .or_default()
            .push(Index { name, columns });
    }
    Ok(found)
}

/// What a column of that type holds; anything without a binary form of ours travels as text.
fn kind_of_type(type_name: &str) -> Kind {
    match type_name {
        "bool" => Kind::Boolean,
        "int2" | "int4" | "int8" => Kind::Integer,
        "timestamptz" | "timestamp" | "date" => Kind::Time,
        "float4" | "float8" => Kind::Real,
        "bytea" => Kind::Bytes,
        _ => Kind::Text,
    }
}
