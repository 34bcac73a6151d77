//! Generates the Rust code of the wire definitions; needs protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    tonic_prost_build::configure()
        .bytes(".")
        .file_descriptor_set_path(out.join("etcd.bin"))
        .compile_protos(
            &[
                "proto/etcd/kv.proto",
                "proto/etcd/auth.proto",
                "proto/etcd/rpc.proto",
                "proto/etcd/v3lock.proto",
                "proto/etcd/v3election.proto",
            ],
            &["proto"],
        )?;
    tonic_prost_build::configure()
        .bytes(".")
        .compile_protos(&["proto/cri/api.proto"], &["proto"])?;
    println!("cargo:rerun-if-changed=proto");
    Ok(())
}
