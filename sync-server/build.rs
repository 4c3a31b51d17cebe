//! Puts the built page, where there is one, into the binary: `web/viewer/dist`, made by `make page`.
#![allow(
    clippy::disallowed_methods,
    reason = "a build script writes where cargo tells it to"
)]

use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let viewer = Path::new(&variable("CARGO_MANIFEST_DIR")).join("../web/viewer");
    let page = viewer.join("dist");
    // A path that is not there would make cargo build anew each time.
    let watched = if page.is_dir() { &page } else { &viewer };
    println!("cargo::rerun-if-changed={}", watched.display());
    let mut files = Vec::new();
    if page.is_dir() {
        collect(&page, &mut files)?;
    }
    files.sort();
    let listed: String = files.iter().filter_map(|file| entry(&page, file)).collect();
    let target = Path::new(&variable("OUT_DIR")).join("page.rs");
    fs::write(target, format!("&[{listed}]"))
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

/// A file with its compressed form, which is no file of its own.
fn entry(page: &Path, file: &Path) -> Option<String> {
    let name = file.strip_prefix(page).ok()?.to_str()?;
    if name.ends_with(".gz") {
        return None;
    }
    let packed = file.with_file_name(format!("{}.gz", file.file_name()?.to_str()?));
    let packed = if packed.is_file() {
        format!("Some(include_bytes!({packed:?}))")
    } else {
        "None".to_owned()
    };
    Some(format!(
        "File {{ name: {name:?}, bytes: include_bytes!({file:?}), packed: {packed} }},\n"
    ))
}

fn variable(name: &str) -> String {
    env::var(name).expect("cargo sets it")
}
