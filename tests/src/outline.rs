//! Comparing a workspace with a project by hashes: for thousands of files, or large ones.
//!
//! The server's hashes are those of its manifest, which settles every text; the disk's are computed here.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt,
    path::Path,
};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::{Project, Workspace};

/// What lies at each path: a file's mode and hash, a link's target, an empty directory.
pub type Outline = BTreeMap<String, String>;

/// Names that are ignored without a rule and that the rows make.
const IGNORED: [&str; 3] = [".git", ".uspark", "node_modules"];

/// How the agent's own temporary names begin: a killed one may leave files that bear them, and nobody syncs those.
const TEMPORARY: &str = ".uspark-tmp-";

impl Workspace {
    /// Everything in the workspace that is not ignored.
    pub fn outline(&self) -> io::Result<Outline> {
        let mut outline = Outline::new();
        add(&mut outline, &self.root(), "")?;
        Ok(outline)
    }

    /// Everything below a directory that is not ignored, whether or not the directory's own name is.
    pub fn outline_below(&self, directory: &str) -> io::Result<Outline> {
        let mut outline = Outline::new();
        add(
            &mut outline,
            &self.path(directory),
            &format!("{directory}/"),
        )?;
        Ok(outline)
    }

    /// Is an error that names the first difference, unless workspace and project have the same outline.
    pub fn equals_by_hash(&self, project: &Project) -> anyhow::Result<()> {
        same_outline(&self.outline()?, &project.outline()?)
    }
}

impl Project {
    /// Everything in the project.
    pub fn outline(&self) -> anyhow::Result<Outline> {
        let manifest = self.manifest()?;
        let files = manifest.as_object().context("`files` is an object")?;
        let said = |entry: &Value| -> anyhow::Result<String> {
            match entry["kind"].as_str() {
                Some("link") => Ok(link(entry["link"].as_str().context("a link's target")?)),
                Some("dir") => Ok(DIRECTORY.to_owned()),
                _ => {
                    let mode = entry["mode"].as_u64().context("a file's mode")?;
                    let hash = entry["hash"].as_str().context("a file's hash")?;
                    Ok(format!("a file, {mode:o}, {hash}"))
                }
            }
        };
        files
            .iter()
            .map(|(path, entry)| Ok((path.clone(), said(entry)?)))
            .collect()
    }
}

/// Is an error that names the first difference and counts them, unless both are the same.
pub fn same_outline(here: &Outline, there: &Outline) -> anyhow::Result<()> {
    let paths = here
        .keys()
        .chain(there.keys().filter(|path| !here.contains_key(*path)));
    let differing: Vec<&String> = paths
        .filter(|path| here.get(*path) != there.get(*path))
        .collect();
    if let Some(first) = differing.first() {
        let said = |outline: &Outline| {
            outline
                .get(*first)
                .map_or("nothing", |said| said)
                .to_owned()
        };
        bail!(
            "{} of {} paths differ, the first is {first:?}: here {}; there {}",
            differing.len(),
            here.len(),
            said(here),
            said(there)
        );
    }
    Ok(())
}

const DIRECTORY: &str = "an empty directory";

fn link(target: &str) -> String {
    format!("a link to {target}")
}

/// Adds what lies in `directory`, whose entries' paths begin with `prefix`.
fn add(outline: &mut Outline, directory: &Path, prefix: &str) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if IGNORED.contains(&name.as_str()) || name.starts_with(TEMPORARY) {
            continue;
        }
        let (place, path) = (entry.path(), format!("{prefix}{name}"));
        let metadata = fs::symlink_metadata(&place)?;
        if metadata.is_symlink() {
            outline.insert(path, link(&fs::read_link(&place)?.to_string_lossy()));
        } else if !metadata.is_dir() {
            let mode = metadata.permissions().mode() & 0o7777;
            let mut hasher = blake3::Hasher::new();
            hasher.update_reader(File::open(&place)?)?;
            let hash = hasher.finalize().to_hex();
            outline.insert(path, format!("a file, {mode:o}, {hash}"));
        } else if fs::read_dir(&place)?.next().is_none() {
            outline.insert(path, DIRECTORY.to_owned());
        } else {
            add(outline, &place, &format!("{path}/"))?;
        }
    }
    Ok(())
}
