//! Compiles the protos with protox, so that no system protoc is needed.

use std::{env, error::Error, fs, path::PathBuf};

const PROTOS: &[&str] = &[
    "sillok/v1/common.proto",
    "sillok/v1/events.proto",
    "sillok/v1/commands.proto",
    "sillok/v1/queries.proto",
    "sillok/v1/cluster.proto",
    "sillok/record/v1/record.proto",
    "sillok/peer/v1/peer.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let out = PathBuf::from(env::var("OUT_DIR")?);

    let all = protox::compile(PROTOS, [&root])?;
    fs::write(out.join("sillok.bin"), prost::Message::encode_to_vec(&all))?;
    // Reflection shows the public contract and nothing of the peers.
    let public = protox::compile(PROTOS.iter().filter(|path| path.starts_with("sillok/v1/")), [&root])?;
    fs::write(out.join("sillok.v1.bin"), prost::Message::encode_to_vec(&public))?;

    tonic_prost_build::configure()
        .bytes(".")
        // The same refusal is the same bytes whenever it is read.
        .btree_map(".")
        .extern_path(".google.rpc.Status", "::tonic_types::Status")
        .extern_path(".sillok.v1.Durability", "crate::durability::Durability")
        .extern_path(".sillok.v1.SubmitRequest", "crate::frame::SubmitRequest")
        .extern_path(".sillok.v1.SubmitResponse", "crate::frame::SubmitResponse")
        .extern_path(".sillok.peer.v1.ExecuteRequest", "crate::frame::ExecuteRequest")
        .compile_fds(all)?;
    Ok(())
}
