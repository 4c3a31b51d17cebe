//! Words of a person and of a program that never rests.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;

/// Lines of a file before the race.
const LINES: usize = 40;
/// Writes of one file: it grows with each, and a longer one only slows the row down.
const WRITES: usize = 1000;

/// A program rewrites a file all the time, always what it has just read and a word more, while a
/// person types into it and every word is written back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_without_pause_costs_no_word() {
    let mut row = Row::begin("a writer without pause during write-backs");
    let wanted = row.count(10_000, 50);
    let server = Double::new();
    let place = Place::new();
    let write_backs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&write_backs);
    let count: ProgressSink = Arc::new(move |progress| {
        if matches!(progress, Progress::Received(_)) {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    let to = Arc::new(server.clone());
    let session = Session::start_with(place.config(Direction::Both), count, to);
    let agent = Agent::on(session.await.unwrap());
    let (mut typed, mut written, mut files) = (0, 0, 0);
    while write_backs.load(Ordering::Relaxed) < wanted {
        let path = format!("f{files}");
        let lines: String = (0..LINES).map(|n| format!("line-{n};\n")).collect();
        server.text_file(&path, &lines);
        agent.equal().await;
        let race = Race {
            server: &server,
            place: &place,
            path: &path,
            write_backs: &write_backs,
            over: AtomicBool::new(false),
        };
        let person = race.run(&mut row.random);
        agent.equal().await;
        let text = server.text(&path);
        assert_eq!(place.read(&path), text);
        let wrote = [("line", LINES), ("person", person), ("program", WRITES)];
        let mut times = count_words(&text);
        for (who, words) in wrote {
            for n in 0..words {
                let word = match who {
                    "line" => format!("line-{n}"),
                    who => word(who, n),
                };
                assert_eq!(
                    times.remove(word.as_str()),
                    Some(1),
                    "{path}: {who} {n}, {word}"
                );
            }
        }
        assert!(times.is_empty(), "{path}: {times:?}");
        typed += person;
        written += WRITES;
        files += 1;
    }
    agent.finish().await;
    let conflicts = server.tree().into_keys().filter(|p| p.contains("conflict"));
    assert_eq!(conflicts.count(), 0);
    let write_backs = write_backs.load(Ordering::Relaxed);
    row.held(format!(
        "{write_backs} write-backs of {typed} typed words under {written} whole writes, 0 words \
         lost, 0 doubled"
    ));
}

/// Words that are not like one another: one that comes to stand in the very place of another like it is taken for
/// an edit of that.
fn word(who: &str, n: usize) -> String {
    let hash = blake3::hash(format!("{who} {n}").as_bytes());
    let letters = hash.as_bytes()[..8].iter();
    letters.map(|byte| char::from(b'a' + byte % 26)).collect()
}

/// Every word ends in a semicolon.
fn count_words(text: &str) -> HashMap<&str, usize> {
    let mut times = HashMap::new();
    let words = text.split(';').map(str::trim);
    for word in words.filter(|word| !word.is_empty()) {
        *times.entry(word).or_default() += 1;
    }
    times
}

struct Race<'a> {
    server: &'a Double,
    place: &'a Place,
    path: &'a str,
    write_backs: &'a AtomicUsize,
    over: AtomicBool,
}

impl Race<'_> {
    /// Gives how many words the person typed.
    fn run(&self, random: &mut fastrand::Rng) -> usize {
        let (one, two) = (random.fork(), random.fork());
        std::thread::scope(|scope| {
            let program = scope.spawn(|| self.write(one));
            let person = scope.spawn(|| self.type_words(two));
            program.join().unwrap();
            self.over.store(true, Ordering::Relaxed);
            person.join().unwrap()
        })
    }

    fn type_words(&self, mut random: fastrand::Rng) -> usize {
        let mut typed = 0;
        let mut came = self.write_backs.load(Ordering::Relaxed);
        while !self.over.load(Ordering::Relaxed) {
            let word = format!("{};", word("person", typed));
            self.server
                .type_into(self.path, |text| with_word(text, &word, &mut random));
            typed += 1;
            // The next word comes when this one is on disk, or a little later.
            for _ in 0..10 {
                std::thread::sleep(Duration::from_millis(1));
                let now = self.write_backs.load(Ordering::Relaxed);
                if std::mem::replace(&mut came, now) != now {
                    break;
                }
            }
        }
        typed
    }

    fn write(&self, mut random: fastrand::Rng) {
        for written in 0..WRITES {
            let read = self.place.read(self.path);
            let new = with_word(
                &read,
                &format!("{};", word("program", written)),
                &mut random,
            );
            let at = self.place.at(self.path);
            match random.bool() {
                true => {
                    let aside = self.place.at(&format!("{}.tmp.1.{written}", self.path));
                    std::fs::write(&aside, &new).unwrap();
                    std::fs::rename(&aside, at).unwrap();
                }
                false => {
                    let mut file = std::fs::File::create(at).unwrap();
                    for chunk in new.as_bytes().chunks(new.len() / 3 + 1) {
                        file.write_all(chunk).unwrap();
                    }
                }
            }
        }
    }
}

/// Puts a word behind a line, or on a line of its own.
fn with_word(text: &str, word: &str, random: &mut fastrand::Rng) -> String {
    let lines = text.matches('\n').count();
    let at = text.match_indices('\n').nth(random.usize(..lines));
    let (end, _) = at.expect("it has so many lines");
    let before = if random.bool() { " " } else { "\n" };
    format!("{}{before}{word}{}", &text[..end], &text[end..])
}
