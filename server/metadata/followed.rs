//! What the target remembers of a source that it follows: what it got from it, so that nothing
//! else is ever removed, and the blobs that are still to go.

use super::engine::Statement;
use super::loader::Loader;
use super::request::{Order, Request, Rows};
use super::snapshot::{Identity, Snapshot};
use super::tuple::text_of;
use super::value::{Row, Value};
use super::{Metadata, MetadataError};

/// The names start with `plikd_migrate_`, as those of all bookkeeping.
pub(super) const TABLES: [&str; 4] = [
    // What a finished run has left of each table, as a digest.
    "CREATE TABLE IF NOT EXISTS plikd_migrate_digests (source text NOT NULL, \
     table_name text NOT NULL, buckets text NOT NULL, PRIMARY KEY (source, table_name))",
    // The rows of `files` whose blobs at a place the last finished run has proven, as a digest.
    "CREATE TABLE IF NOT EXISTS plikd_migrate_proven (source text NOT NULL, \
     place text NOT NULL, buckets text NOT NULL, PRIMARY KEY (source))",
    // Which rows a run that is not finished may remove.
    "CREATE TABLE IF NOT EXISTS plikd_migrate_owned (source text NOT NULL, \
     table_name text NOT NULL, buckets text NOT NULL, PRIMARY KEY (source, table_name))",
    "CREATE TABLE IF NOT EXISTS plikd_migrate_doomed (source text NOT NULL, \
     file_id text NOT NULL, place text NOT NULL, upload_id text NOT NULL, \
     backend_details text NOT NULL, PRIMARY KEY (source, file_id))",
];

/// A blob in the target whose file is gone from the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoomedBlob {
    pub file_id: String,
    pub upload_id: String,
    /// `backend_details` of the row that the target had of it.
    pub details: String,
}

impl Snapshot {
    /// As [`Loader::left_digest`].
    pub async fn left_digest(
        &self,
        source: &Identity,
        table: &str,
    ) -> Result<Option<String>, MetadataError> {
        self.buckets("plikd_migrate_digests", source, table).await
    }

    /// As [`Loader::owned`].
    pub async fn owned(
        &self,
        source: &Identity,
        table: &str,
    ) -> Result<Option<String>, MetadataError> {
        self.buckets("plikd_migrate_owned", source, table).await
    }

    /// `None` also where no run has been yet.
    async fn buckets(
        &self,
        name: &str,
        source: &Identity,
        table: &str,
    ) -> Result<Option<String>, MetadataError> {
        let layouts = self.layouts().await?;
        let Some(layout) = layouts.iter().find(|layout| layout.name == name) else {
            return Ok(None);
        };
        let encoding = self.encoding_for(self.driver());
        let mut rows = self.read(Request {
            layout: layout.project(&["source", "table_name", "buckets"]),
            encoding,
            to: self.driver(),
            after: None,
            rows: Rows::All,
            order: Order::Any,
        });
        let key = [Some(source.to_string()), Some(table.to_owned())];
        while let Some(batch) = rows.next().await? {
            for row in batch.rows.iter() {
                let text = |column| text_of(row.field(column), encoding);
                if [text(0), text(1)] == key {
                    return Ok(text(2));
                }
            }
        }
        Ok(None)
    }
}

impl Loader {
    /// What the last finished run from `source` has left in `table`, if it was compared.
    pub async fn left_digest(
        &self,
        source: &Identity,
        table: &str,
    ) -> Result<Option<String>, MetadataError> {
        const SQL: &str =
            "SELECT buckets FROM plikd_migrate_digests WHERE source = $1 AND table_name = $2";
        self.buckets(SQL, source, table).await
    }

    /// Which rows of `table` a run that was cut off found to have come from `source`.
    pub async fn owned(
        &self,
        source: &Identity,
        table: &str,
    ) -> Result<Option<String>, MetadataError> {
        const SQL: &str =
            "SELECT buckets FROM plikd_migrate_owned WHERE source = $1 AND table_name = $2";
        self.buckets(SQL, source, table).await
    }

    async fn buckets(
        &self,
        sql: &'static str,
        source: &Identity,
        of: &str,
    ) -> Result<Option<String>, MetadataError> {
        let params = [Value::Text(source.to_string()), of.into()];
        let engine = self.metadata.engine();
        let rows = engine.query("read what it got", sql, params).await?;
        Ok(rows.first().map(|row| row.text("buckets")))
    }

    /// Writes down which rows of `table` came from `source`, before the first of them changes.
    pub async fn set_owned(
        &self,
        source: &Identity,
        table: &str,
        buckets: &str,
    ) -> Result<(), MetadataError> {
        const SQL: &str = "INSERT INTO plikd_migrate_owned (source, table_name, buckets) \
             VALUES ($1, $2, $3) ON CONFLICT (source, table_name) DO NOTHING";
        let params = [source.to_string().as_str(), table, buckets].map(Value::from);
        write(&self.metadata, vec![Statement::new(SQL, params)]).await
    }

    /// The rows of `files` whose blobs at `place` the last finished run from `source` has proven,
    /// if it was about blobs.
    pub async fn proven_digest(
        &self,
        source: &Identity,
        place: &str,
    ) -> Result<Option<String>, MetadataError> {
        const SQL: &str =
            "SELECT buckets FROM plikd_migrate_proven WHERE source = $1 AND place = $2";
        self.buckets(SQL, source, place).await
    }

    /// Writes down what the run leaves: a digest for each table that was compared, and one of the
    /// rows of `files` whose blobs it has proven at a place. Without that, those of earlier runs
    /// prove nothing any more.
    pub async fn leave_digests(
        &self,
        source: &Identity,
        digests: &[(String, String)],
        proven: Option<(&str, String)>,
    ) -> Result<(), MetadataError> {
        const FORGET: [&str; 2] = [
            "DELETE FROM plikd_migrate_digests WHERE source = $1",
            "DELETE FROM plikd_migrate_proven WHERE source = $1",
        ];
        const SQL: &str = "INSERT INTO plikd_migrate_digests (source, table_name, buckets) \
             VALUES ($1, $2, $3)";
        const PROVEN: &str = "INSERT INTO plikd_migrate_proven (source, place, buckets) \
             VALUES ($1, $2, $3)";
        let source = source.to_string();
        let forget = |sql| Statement::new(sql, [Value::from(source.as_str())]);
        let mut statements = Vec::from(FORGET.map(forget));
        statements.extend(proven.map(|(place, buckets)| {
            Statement::new(PROVEN, [source.as_str(), place, &buckets].map(Value::from))
        }));
        statements.extend(digests.iter().map(|(table, buckets)| {
            Statement::new(SQL, [source.as_str(), table, buckets].map(Value::from))
        }));
        write(&self.metadata, statements).await
    }

    /// Writes down blobs that are to go once no row promises them.
    pub async fn doom(
        &self,
        source: &Identity,
        place: &str,
        blobs: &[DoomedBlob],
    ) -> Result<(), MetadataError> {
        const SQL: &str = "INSERT INTO plikd_migrate_doomed \
             (source, file_id, place, upload_id, backend_details) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (source, file_id) DO NOTHING";
        let source = source.to_string();
        let statements = blobs.iter().map(|blob| {
            let params = [
                source.as_str(),
                &blob.file_id,
                place,
                &blob.upload_id,
                &blob.details,
            ];
            Statement::new(SQL, params.map(Value::from))
        });
        write(&self.metadata, statements.collect()).await
    }

    /// Some of the blobs of `place` that were written down, and that no row promises.
    pub async fn doomed(
        &self,
        source: &Identity,
        place: &str,
    ) -> Result<Vec<DoomedBlob>, MetadataError> {
        const SQL: &str = "SELECT file_id, upload_id, backend_details FROM plikd_migrate_doomed d \
             WHERE source = $1 AND place = $2 AND NOT EXISTS (SELECT 1 FROM files f \
             WHERE f.id = d.file_id AND f.status IN ('uploaded', 'removed')) LIMIT 500";
        let params = [source.to_string().as_str(), place].map(Value::from);
        let engine = self.metadata.engine();
        let rows = engine
            .query("read which blobs are to go", SQL, params)
            .await?;
        let blob = |row: &Row| DoomedBlob {
            file_id: row.text("file_id"),
            upload_id: row.text("upload_id"),
            details: row.text("backend_details"),
        };
        Ok(rows.iter().map(blob).collect())
    }

    /// Some of the files behind `after`, in order, whose blobs a run brought that is not finished,
    /// and of which no row promises bytes.
    pub async fn unpromised(
        &self,
        source: &Identity,
        after: &str,
    ) -> Result<Vec<String>, MetadataError> {
        const SQL: &str = "SELECT file_id FROM plikd_migrate_blobs b WHERE source = $1 \
             AND file_id > $2 AND arrived AND NOT EXISTS (SELECT 1 FROM files f \
             WHERE f.id = b.file_id AND f.status IN ('uploaded', 'removed')) \
             ORDER BY file_id LIMIT 500";
        let params = [source.to_string().as_str(), after].map(Value::from);
        let engine = self.metadata.engine();
        let rows = engine
            .query("read which blobs it brought", SQL, params)
            .await?;
        Ok(rows.iter().map(|row| row.text("file_id")).collect())
    }

    /// Forgets blobs that are gone.
    pub async fn forget_doomed(
        &self,
        source: &Identity,
        blobs: &[DoomedBlob],
    ) -> Result<(), MetadataError> {
        const SQL: &str = "DELETE FROM plikd_migrate_doomed WHERE source = $1 AND file_id = $2";
        let source = source.to_string();
        let statements = blobs
            .iter()
            .map(|blob| Statement::new(SQL, [source.as_str(), &blob.file_id].map(Value::from)));
        write(&self.metadata, statements.collect()).await
    }
}

async fn write(metadata: &Metadata, statements: Vec<Statement>) -> Result<(), MetadataError> {
    let written = metadata.engine().write("note what it got", statements);
    written.await.map(|_| ())
}
