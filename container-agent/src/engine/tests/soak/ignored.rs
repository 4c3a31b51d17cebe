//! What is not synced, and what stays synced whatever the rules say.

use super::*;

/// Rules of every kind, in a directory that is no repository.
const RULES: [(&str, &str); 3] = [
    (".gitignore", "*.log\n/build/\n!keep.log\nsecret\n"),
    ("sub/.gitignore", "!important.log\n*.tmp\n"),
    (".usparkignore", "!secret\nprivate\n"),
];
const SYNCED: [&str; 7] = [
    "a.txt",
    "keep.log",
    "secret",
    "sub/important.log",
    "sub/build/x",
    "sub/b.txt",
    "x.tmp",
];
const IGNORED: [&str; 6] = [
    "a.log",
    "build/x",
    "sub/x.log",
    "sub/x.tmp",
    "private",
    "node_modules/p/i.js",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_keep_files_out_and_never_take_one_away() {
    let mut row = Row::begin("ignore rules");
    let rounds = row.count(200, 2);
    for round in 0..rounds {
        let server = Double::new();
        let place = Place::new();
        let mut files: Vec<&str> = [&SYNCED[..], &IGNORED[..]].concat();
        row.random.shuffle(&mut files);
        // The rules first, last or in between.
        let at = row.random.usize(..=files.len());
        let agent = match row.random.bool() {
            true => {
                write_rules(&place);
                Some(place.watch(&server).await)
            }
            false => None,
        };
        for (n, path) in files.iter().enumerate() {
            if n == at && agent.is_none() {
                write_rules(&place);
            }
            place.write(path, format!("{path}\n"));
        }
        write_rules(&place);
        let agent = match agent {
            Some(agent) => agent,
            None => place.watch(&server).await,
        };
        agent.equal().await;
        let mut expected: Vec<&str> = SYNCED.to_vec();
        expected.extend(RULES.map(|(path, _)| path));
        expected.sort_unstable();
        let paths = || -> Vec<String> { server.tree().into_keys().collect() };
        assert_eq!(paths(), expected, "{round}");
        // Everything is ignored now, by somebody here or elsewhere.
        match round % 2 == 0 {
            true => server.type_into(".gitignore", |_| "*\n".into()),
            false => place.write(".gitignore", "*\n"),
        }
        agent.equal().await;
        assert_eq!(place.read(".gitignore"), "*\n");
        let agent = match row.random.bool() {
            true => agent,
            false => {
                agent.finish().await;
                place.watch(&server).await
            }
        };
        assert_eq!(paths(), expected, "{round}");
        // What is synced stays so, both ways; what is new is not, unless it comes from there.
        for path in SYNCED {
            place.sh(&format!("echo here >> {path}"));
        }
        place.write("new.txt", "not synced\n");
        place.write("sub/new/x", "not synced\n");
        server.text_file("sub/from/there", "first\n");
        agent.equal().await;
        for path in SYNCED {
            server.type_into(path, |text| format!("there\n{text}"));
        }
        place.sh("echo here >> sub/from/there");
        agent.equal().await;
        for path in SYNCED {
            let both = format!("there\n{path}\nhere\n");
            assert_eq!([server.text(path), place.read(path)], [both.clone(), both]);
        }
        assert_eq!(server.text("sub/from/there"), "first\nhere\n");
        expected.push("sub/from/there");
        expected.sort_unstable();
        assert_eq!(paths(), expected, "{round}");
        // A file that goes is gone, and once nothing is ignored the rest is synced.
        place.sh("rm a.txt; rm .gitignore .usparkignore sub/.gitignore");
        agent.equal().await;
        let mut here = place.tree();
        here.retain(|path, _| !path.starts_with("node_modules"));
        assert_eq!(server.tree(), here, "{round}");
        assert!(!server.tree().contains_key("a.txt") && here.contains_key("build/x"));
        agent.finish().await;
    }
    row.held(format!(
        "{rounds} workspaces: rules kept out what they name, and took nothing away"
    ));
}

fn write_rules(place: &Place) {
    for (path, rules) in RULES {
        place.write(path, rules);
    }
}
