//! Long tests of single sessions: see `uspark_tests::Row` and `make soak`.

mod calls;
mod copies;
mod ignored;
mod quiet;
mod speed;
mod trees;
mod words;

use uspark_tests::Row;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_line_of_a_megabyte_is_a_small_update() {
    let row = Row::begin("one-line edit of a 1 MB file");
    let server = Double::new();
    let text: String = (0..20_000)
        .map(|n| format!("line {n:05} and fifty bytes of text in it as it is\n"))
        .collect();
    server.text_file("f", &text);
    let place = Place::new();
    let agent = place.watch(&server).await;
    place.write("f", text.replacen("line 10000", "line ten thousand", 1));
    agent.equal().await;
    let sizes: Vec<usize> = server
        .seen()
        .updates
        .iter()
        .map(|(_, size, _)| *size)
        .collect();
    assert!(sizes.len() == 1 && sizes[0] < 200, "{sizes:?}");
    agent.finish().await;
    row.held(format!("{} bytes of {}", sizes[0], text.len()));
}
