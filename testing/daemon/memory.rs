//! Memory does not grow with the size of a file.

use bytes::Bytes;
use futures::{StreamExt, stream};
use md5::{Digest, Md5};
use reqwest::Body;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use crate::api::{content, said};
use crate::server::Server;

const CHUNK: usize = 1 << 20;
const CHUNKS: usize = 1 << 10;
/// What the process may need more at its peak than before.
const GROWTH_KIB: u64 = 16 << 10;

#[tokio::test]
async fn a_gibibyte_passes_through_little_memory() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let upload = server.create_with_file(json!({}), "big").await?;
    let chunk = Bytes::from(content(CHUNK, 1));
    let mut expected = Md5::new();
    for _ in 0..CHUNKS {
        expected.update(&chunk);
    }
    let expected: String = expected
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let before = server.memory_kib("VmRSS")?;

    let chunks = stream::iter(vec![chunk.clone(); CHUNKS]).map(Ok::<_, std::io::Error>);
    let part = Part::stream(Body::wrap_stream(chunks)).file_name("big");
    let request = server
        .post(&upload.path(0))
        .multipart(Form::new().part("file", part));
    let (status, text) = said(request.header("X-UploadToken", &upload.token)).await?;
    assert_eq!(status, 200, "{text}");
    let file: Value = serde_json::from_str(&text)?;
    assert_eq!(file["fileSize"], CHUNK * CHUNKS);
    assert_eq!(file["fileMd5"], expected);

    let mut answer = server.get(&upload.path(0)).send().await?;
    let mut received = 0;
    while let Some(bytes) = answer.chunk().await? {
        // Chunks of an answer may end anywhere, the pattern repeats.
        let at = received % CHUNK;
        let in_step = bytes.len().min(CHUNK - at);
        assert!(bytes[..in_step] == chunk[at..at + in_step]);
        received += bytes.len();
    }
    assert_eq!(received, CHUNK * CHUNKS);

    let peak = server.memory_kib("VmHWM")?;
    let growth = peak.saturating_sub(before);
    assert!(
        growth < GROWTH_KIB,
        "the peak is {growth} KiB above the start"
    );
    Ok(())
}
