//! A scripted Anthropic model on loopback: the real Claude Code asks it what to do next, and it answers from a script.
//!
//! Owns: `POST /v1/messages` as a stream of server-sent events. The turn is chosen by how many turns the
//! conversation already has, so that a request which Claude Code repeats gets the same answer. A sub-agent's
//! conversation is known by its prompt.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    http::header,
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, runtime::Runtime, sync::Semaphore};

use crate::{SOON, Workspace, eventually};

/// How long a held answer is held at most; the test that holds it has failed long before.
const HELD_AT_MOST: Duration = Duration::from_secs(120);

/// One answer of the model.
pub struct Turn {
    content: Value,
    held: bool,
    agent: Option<Agent>,
}

/// A sub-agent: what it is told, and what the model answers it.
struct Agent {
    prompt: String,
    turns: Vec<Turn>,
}

impl Turn {
    /// Uses a tool.
    pub fn tool(name: &str, input: Value) -> Self {
        Self::new(json!({"type": "tool_use", "name": name, "input": input}))
    }

    /// Uses a sub-agent, which is told `prompt`, as nobody else is, and gets these answers.
    pub fn agent(prompt: &str, turns: Vec<Self>) -> Self {
        let input = json!({"description": "a part of it", "prompt": prompt, "subagent_type": "general-purpose"});
        let prompt = prompt.to_owned();
        Self {
            agent: Some(Agent { prompt, turns }),
            ..Self::tool("Agent", input)
        }
    }

    /// Says something, which ends the conversation.
    pub fn say(text: &str) -> Self {
        Self::new(json!({"type": "text", "text": text}))
    }

    /// Comes only after [`Model::go_on`].
    pub fn held(mut self) -> Self {
        self.held = true;
        self
    }

    fn new(content: Value) -> Self {
        Self {
            content,
            held: false,
            agent: None,
        }
    }
}

/// A running model; dropping it ends it.
pub struct Model {
    url: String,
    script: Arc<Script>,
    runtime: Option<Runtime>,
}

struct Script {
    turns: Vec<Turn>,
    asked: Mutex<Vec<Asked>>,
    go_on: Semaphore,
    over: AtomicBool,
}

impl Script {
    /// The answers of the conversation that begins with `first`, and the number of the turn that began it: none for
    /// the one that is not a sub-agent's.
    fn conversation(&self, first: &Value) -> (Option<usize>, &[Turn]) {
        let first = first.to_string();
        let agents = self.turns.iter().enumerate();
        let mut agents = agents.filter_map(|(number, turn)| Some((number, turn.agent.as_ref()?)));
        match agents.find(|(_, agent)| first.contains(&agent.prompt)) {
            Some((number, agent)) => (Some(number), &agent.turns),
            None => (None, &self.turns),
        }
    }
}

/// The id of the tool call in a turn; `agent` is the number of the turn that began the sub-agent that makes it.
pub fn call_id(agent: Option<usize>, number: usize) -> String {
    match agent {
        Some(agent) => format!("toolu_{agent:010}_{number:010}"),
        None => format!("toolu_{number:020}"),
    }
}

/// A request for an answer.
struct Asked {
    /// The answer's place in the script.
    number: usize,
    at: SystemTime,
    request: Value,
}

impl Model {
    /// Starts a model that gives these answers in this order, and then says that it is done.
    #[track_caller]
    pub fn start(turns: Vec<Turn>) -> Self {
        let script = Arc::new(Script {
            turns,
            asked: Mutex::default(),
            go_on: Semaphore::new(0),
            over: AtomicBool::new(false),
        });
        let runtime = Runtime::new().expect("a runtime");
        let listener = runtime
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .expect("a port on loopback");
        let url = format!(
            "http://{}",
            listener
                .local_addr()
                .expect("a bound socket has an address")
        );
        let router = Router::new()
            .route("/v1/messages", post(answer))
            // Whatever else is asked, a HEAD of the root among it, gets an empty object.
            .fallback(async || Json(json!({})))
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&script));
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self {
            url,
            script,
            runtime: Some(runtime),
        }
    }

    /// The environment in which Claude Code asks this model and nobody else.
    pub fn environment(&self) -> [(&'static str, &str); 6] {
        [
            ("ANTHROPIC_BASE_URL", &self.url),
            ("ANTHROPIC_API_KEY", "sk-test"),
            // Claude Code refuses to run unattended as root unless it is told that it is in a sandbox.
            ("IS_SANDBOX", "1"),
            ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
            ("DISABLE_TELEMETRY", "1"),
            ("DISABLE_AUTOUPDATER", "1"),
        ]
    }

    /// A workspace whose Claude Code asks this model and nobody else.
    pub fn asked_by(&self, workspace: Workspace) -> Workspace {
        let environment = self.environment().into_iter();
        environment.fold(workspace, |workspace, (name, value)| {
            workspace.env(name, value)
        })
    }

    /// Lets one held answer go.
    pub fn go_on(&self) {
        self.script.go_on.add_permits(1);
    }

    /// Says from now on that it is done, whatever else the script has.
    pub fn end(&self) {
        self.script.over.store(true, Ordering::Relaxed);
    }

    /// For how many answers the model was asked. What sub-agents ask does not count.
    pub fn asked(&self) -> usize {
        let asked = self.script.asked.lock();
        asked.expect("the model does not panic").len()
    }

    /// Waits until the model was asked for its `count`-th answer, which is when the tools of those before have run.
    #[track_caller]
    pub fn wait_asked(&self, count: usize) {
        eventually(SOON, || {
            let asked = self.asked();
            anyhow::ensure!(asked >= count, "the model was asked {asked} times");
            Ok(())
        });
    }

    /// When the model was first asked for an answer, by its place in the script.
    #[track_caller]
    pub fn asked_at(&self, number: usize) -> SystemTime {
        let asked = self.script.asked.lock().expect("the model does not panic");
        let first = asked.iter().find(|asked| asked.number == number);
        first.expect("the model was asked that often").at
    }

    /// What the tools answered until the model was last asked, in order: the text, and whether it is an error.
    pub fn tool_results(&self) -> Vec<(String, bool)> {
        let asked = self.script.asked.lock().expect("the model does not panic");
        let Some(last) = asked.last() else {
            return Vec::new();
        };
        let blocks = |message: &Value| message["content"].as_array().cloned().unwrap_or_default();
        let messages = last.request["messages"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let results = messages
            .iter()
            .flat_map(blocks)
            .filter(|block| block["type"] == "tool_result");
        results
            .map(|block| (block["content"].to_string(), block["is_error"] == true))
            .collect()
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn answer(State(script): State<Arc<Script>>, Json(request): Json<Value>) -> Response {
    let done = Turn::say("done");
    // A request without tools is a question aside, such as one for a title.
    if request["tools"].as_array().is_none_or(Vec::is_empty) {
        return events("toolu_none".to_owned(), &done);
    }
    let messages = request["messages"].as_array().cloned().unwrap_or_default();
    let number = messages
        .iter()
        .filter(|message| message["role"] == "assistant")
        .count();
    let (agent, turns) = script.conversation(&messages[0]);
    if agent.is_none() {
        let mut asked = script.asked.lock().expect("nobody panics with the lock");
        asked.push(Asked {
            number,
            at: SystemTime::now(),
            request,
        });
    }
    let is_over = script.over.load(Ordering::Relaxed);
    let turn = turns.get(number).filter(|_| !is_over).unwrap_or(&done);
    if turn.held
        && let Ok(Ok(permit)) = tokio::time::timeout(HELD_AT_MOST, script.go_on.acquire()).await
    {
        permit.forget();
    }
    events(call_id(agent, number), turn)
}

/// The turn as the stream of events that a model answers; `id` is that of its tool call.
fn events(id: String, turn: &Turn) -> Response {
    let mut block = turn.content.clone();
    let (delta, stop) = if block["type"] == "tool_use" {
        let input = std::mem::replace(&mut block["input"], json!({})).to_string();
        block["id"] = json!(id);
        (
            json!({"type": "input_json_delta", "partial_json": input}),
            "tool_use",
        )
    } else {
        let text = std::mem::replace(&mut block["text"], json!(""));
        (json!({"type": "text_delta", "text": text}), "end_turn")
    };
    let usage = json!({"input_tokens": 10, "output_tokens": 10});
    let message = json!({
        "id": format!("msg_{id}"), "type": "message", "role": "assistant", "model": "claude-sonnet-4-5",
        "content": [], "stop_reason": null, "stop_sequence": null, "usage": usage,
    });
    let events = [
        json!({"type": "message_start", "message": message}),
        json!({"type": "content_block_start", "index": 0, "content_block": block}),
        json!({"type": "content_block_delta", "index": 0, "delta": delta}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": null}, "usage": usage}),
        json!({"type": "message_stop"}),
    ];
    let body: String = events
        .iter()
        .map(|event| {
            format!(
                "event: {}\ndata: {event}\n\n",
                event["type"].as_str().unwrap_or("")
            )
        })
        .collect();
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}
