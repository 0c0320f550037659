use plikd::cmd::{self, Exit};

#[tokio::main]
async fn main() -> Exit {
    cmd::main().await
}
