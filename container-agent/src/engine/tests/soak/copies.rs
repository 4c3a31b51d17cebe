//! A workspace that was copied with its journal, both of which are used.

use super::*;

impl Place {
    /// A copy with all that is in `.uspark`.
    fn copied(&self) -> Self {
        let copy = Self::new();
        self.sh(&format!("cp -a . {}", copy.dir.path().display()));
        copy
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copied_workspace_loses_and_doubles_nothing() {
    let mut row = Row::begin("a workspace copied with its journal");
    let rounds = row.count(200, 2);
    for round in 0..rounds {
        let server = Double::new();
        let lines: String = (0..20).map(|n| format!("line {n}\n")).collect();
        server.text_file("f", &lines);
        server.text_file("untouched", "u\n");
        let first = Place::new();
        let agent = first.watch(&server).await;
        // What is in the journal, and not on the server, when it is copied.
        server.set_away(true);
        let mut words = Vec::new();
        let mut insert = |place: &Place, who: &str, random: &mut fastrand::Rng| {
            let word = format!("{who}-{};", words.len());
            let line = format!("line {}\n", random.usize(..20));
            let new = place.read("f").replace(&line, &format!("{line}{word}\n"));
            place.write("f", new);
            words.push(word);
        };
        insert(&first, "before", &mut row.random);
        first.sh("mv untouched moved");
        let deadline = Instant::now() + SOON;
        while agent.handle.status().await.unacknowledged < 2 {
            assert!(Instant::now() < deadline, "nothing was spooled");
        }
        agent.kill().await;
        let second = first.copied();
        insert(&first, "first", &mut row.random);
        insert(&second, "second", &mut row.random);
        server.set_away(false);
        let agents = [first.watch(&server).await, second.watch(&server).await];
        for _ in 0..3 {
            insert(&first, "first", &mut row.random);
            insert(&second, "second", &mut row.random);
            // What one writes the other has, before it is written again.
            for agent in agents.iter().chain(&agents) {
                agent.equal().await;
            }
        }
        let text = server.text("f");
        for word in &words {
            assert_eq!(text.matches(word.as_str()).count(), 1, "{round}: {word}");
        }
        let tree = server.tree();
        assert_eq!(tree.keys().collect::<Vec<_>>(), ["f", "moved"], "{round}");
        for (place, agent) in [&first, &second].into_iter().zip(agents) {
            agent.finish().await;
            assert_eq!(place.tree(), tree, "{round}");
        }
    }
    row.held(format!(
        "{rounds} copies used beside the original, 0 words lost, 0 doubled"
    ));
}
