//! Hands the linker the script of cortex-m-rt and, through it, `memory.x`.

fn main() {
    println!("cargo::rerun-if-changed=memory.x");
    let var = |name| std::env::var(name).unwrap_or_default();
    if var("CARGO_CFG_TARGET_OS") == "none" {
        println!("cargo::rustc-link-search={}", var("CARGO_MANIFEST_DIR"));
        println!("cargo::rustc-link-arg-bins=-Tlink.x");
    }
}
