//! A project's files as a zip, written from front to back.
//!
//! Invariant: what ends early has no directory at its end, so that no program takes it for whole.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{self, Write};

use bytes::Bytes;
use uspark_shared::id::BlobHash;
use uspark_shared::path::FilePath;
use uspark_shared::schema::DEFAULT_MODE;
use zip::write::SimpleFileOptions;
use zip::{DateTime, ZipWriter};

use crate::project::ManifestFile;

const SECOND: u64 = 1000;
const DAY: u64 = 24 * 60 * 60;

/// Writes every file, its bytes as `open` gives them.
pub(super) fn write<C>(
    files: &BTreeMap<FilePath, ManifestFile>,
    mut open: impl FnMut(&BlobHash) -> io::Result<C>,
    out: impl Write,
) -> io::Result<()>
where
    C: IntoIterator<Item = io::Result<Bytes>>,
{
    let is_over = Cell::new(false);
    let mut zip = ZipWriter::new_stream(Tap {
        out,
        is_over: &is_over,
    });
    let mut fill = || {
        for (path, file) in files {
            let options = options(file);
            match (&file.hash, &file.link) {
                (Some(hash), _) => {
                    zip.start_file(path.as_str(), options)?;
                    for chunk in open(hash)? {
                        zip.write_all(&chunk?)?;
                    }
                }
                (None, Some(target)) => zip.add_symlink(path.as_str(), target, options)?,
                (None, None) => zip.add_directory(path.as_str(), options)?,
            }
        }
        io::Result::Ok(())
    };
    let filled = fill();
    if filled.is_err() {
        // Dropping the writer would end the archive in good order.
        is_over.set(true);
        return filled;
    }
    zip.finish()?;
    Ok(())
}

fn options(file: &ManifestFile) -> SimpleFileOptions {
    let options = SimpleFileOptions::default()
        .last_modified_time(date(file.mtime.unwrap_or(0)))
        .large_file(file.size.unwrap_or(0) >= u64::from(u32::MAX));
    match (&file.hash, file.mode) {
        (Some(_), mode) => options.unix_permissions(mode.unwrap_or(DEFAULT_MODE)),
        (None, _) => options,
    }
}

/// A zip's time, which knows neither a zone nor what lies before 1980: we give UTC.
fn date(ms: u64) -> DateTime {
    let seconds = ms / SECOND;
    let (days, time) = (seconds / DAY, seconds % DAY);
    // Howard Hinnant's `civil_from_days`, for days since 1970: years begin in March, so that a
    // leap day is the last of one.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let small = |n: u64| u8::try_from(n).unwrap_or(0);
    let date = DateTime::from_date_and_time(
        u16::try_from(year).unwrap_or(u16::MAX),
        small(month),
        small(day),
        small(time / 3600),
        small(time / 60 % 60),
        small(time % 60),
    );
    date.unwrap_or_default()
}

/// Lets nothing through once it is over.
struct Tap<'a, W> {
    out: W,
    is_over: &'a Cell<bool>,
}

impl<W: Write> Write for Tap<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_over.get() {
            return Ok(bytes.len());
        }
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.is_over.get() {
            Ok(())
        } else {
            self.out.flush()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Read as _};

    use zip::ZipArchive;

    use super::*;

    fn file(bytes: &[u8], mode: u32, mtime: u64) -> ManifestFile {
        ManifestFile {
            kind: "binary",
            hash: Some(BlobHash::of(bytes)),
            size: Some(bytes.len() as u64),
            mode: Some(mode),
            mtime: Some(mtime),
            doc: None,
            link: None,
        }
    }

    fn files() -> BTreeMap<FilePath, ManifestFile> {
        let plain = ManifestFile {
            hash: None,
            size: None,
            mode: None,
            mtime: None,
            ..file(b"", 0, 0)
        };
        let link = ManifestFile {
            kind: "link",
            link: Some("../b".into()),
            ..plain.clone()
        };
        let dir = ManifestFile {
            kind: "dir",
            ..plain
        };
        let named = |path: &str| path.parse().unwrap();
        [
            (named("bin/run"), file(b"one", 0o755, 1_732_166_400_000)),
            (named("empty"), dir),
            (named("ü"), file(b"two", 0o600, 0)),
            (named("link"), link),
        ]
        .into()
    }

    fn one_chunk(hash: &BlobHash) -> io::Result<[io::Result<Bytes>; 1]> {
        let found = [b"one", b"two"]
            .into_iter()
            .find(|bytes| BlobHash::of(*bytes) == *hash);
        Ok([Ok(Bytes::from_static(found.unwrap()))])
    }

    #[test]
    fn modes_links_and_empty_directories_are_kept() {
        let mut out = Vec::new();
        write(&files(), one_chunk, &mut out).unwrap();
        let mut zip = ZipArchive::new(Cursor::new(out)).unwrap();
        let mut found = Vec::new();
        for at in 0..zip.len() {
            let mut entry = zip.by_index(at).unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            found.push((entry.name().to_owned(), entry.unix_mode().unwrap(), text));
        }
        let expected = [
            ("bin/run", 0o100_755, "one"),
            ("empty/", 0o040_755, ""),
            ("link", 0o120_777, "../b"),
            ("ü", 0o100_600, "two"),
        ];
        let owned =
            |(name, mode, text): (&str, u32, &str)| (name.to_owned(), mode, text.to_owned());
        assert_eq!(found, expected.map(owned));
        let date = zip.by_name("bin/run").unwrap().last_modified().unwrap();
        assert_eq!(date.to_string(), "2024-11-21 05:20:00");
    }

    #[test]
    fn what_ends_early_is_no_archive() {
        let mut out = Vec::new();
        let open = |_: &BlobHash| Ok([Ok(Bytes::from("on")), Err(io::Error::other("gone"))]);
        write(&files(), open, &mut out).unwrap_err();
        assert!(!out.is_empty() && ZipArchive::new(Cursor::new(out)).is_err());
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (ms, expected) in [
            (951_782_398_000, "2000-02-28 23:59:58"),
            (951_782_400_000, "2000-02-29 00:00:00"),
            (4_107_542_400_000, "2100-03-01 00:00:00"),
            (0, "1980-01-01 00:00:00"),
            (u64::MAX, "1980-01-01 00:00:00"),
        ] {
            assert_eq!(date(ms).to_string(), expected);
        }
    }
}
