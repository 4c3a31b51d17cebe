//! The tool calls that are under way: what made a change, and which files to leave alone.

use uspark_shared::path::FilePath;

use super::barrier::Cookie;
use super::config::ToolCall;

/// Claude Code's own tools that delete nothing. What a shell, a sub-agent or somebody else's tool
/// does, nobody knows.
const HARMLESS: [&str; 11] = [
    "Edit",
    "Glob",
    "Grep",
    "LS",
    "MultiEdit",
    "NotebookEdit",
    "Read",
    "TodoWrite",
    "WebFetch",
    "WebSearch",
    "Write",
];

/// The tool calls under way.
#[derive(Debug, Default)]
pub(super) struct Tools {
    run: Option<String>,
    calls: Vec<Call>,
}

#[derive(Debug)]
struct Call {
    call: ToolCall,
    /// It is finished, but its last writes may not have been reported: they were once this cookie
    /// is seen.
    until: Option<Cookie>,
}

impl Tools {
    /// No tool calls yet, of a run.
    pub fn new(run: Option<String>) -> Self {
        Self {
            run,
            calls: Vec::new(),
        }
    }

    /// A call begins.
    pub fn started(&mut self, call: ToolCall) {
        self.calls.push(Call { call, until: None });
    }

    /// A call has ended; its changes are complete once its cookie is seen. When none is needed it is
    /// over now, and given back.
    pub fn finished(&mut self, id: &str, cookie: Option<Cookie>) -> Vec<ToolCall> {
        if cookie.is_none() {
            return self.end(|call| call.call.id == id);
        }
        for call in self.calls.iter_mut().filter(|call| call.call.id == id) {
            call.until.clone_from(&cookie);
        }
        Vec::new()
    }

    /// A cookie was seen. Gives the calls that are over now.
    pub fn cookie(&mut self, cookie: &str) -> Vec<ToolCall> {
        self.end(|call| call.until.as_deref() == Some(cookie))
    }

    fn end(&mut self, is_over: impl Fn(&Call) -> bool) -> Vec<ToolCall> {
        let over = self.calls.extract_if(.., |call| is_over(call));
        over.map(|call| call.call).collect()
    }

    /// Whether a call is under way that may be writing this path.
    pub fn hold(&self, path: &FilePath) -> bool {
        self.calls.iter().any(|call| call.call.paths.contains(path))
    }

    /// Whether a call is under way that may delete files.
    pub fn may_delete(&self) -> bool {
        let harmless = |call: &Call| HARMLESS.contains(&call.call.name.as_str());
        self.calls.iter().any(|call| !harmless(call))
    }

    /// What makes a change of this path that is seen now, as the wire's JSON value: the call that
    /// named it; else the only one that named nothing (a shell, a sub-agent); else no call.
    pub fn author(&self, path: &FilePath) -> Option<String> {
        let named = self
            .calls
            .iter()
            .rev()
            .find(|call| call.call.paths.contains(path));
        let mut unnamed = self.calls.iter().filter(|call| call.call.paths.is_empty());
        let call = match (named, unnamed.next(), unnamed.next()) {
            (Some(call), _, _) | (None, Some(call), None) => Some(&call.call),
            _ => None,
        };
        let mut by = serde_json::Map::new();
        if let Some(run) = &self.run {
            by.insert("run".into(), run.as_str().into());
        }
        if let Some(call) = call {
            by.insert("toolUseId".into(), call.id.as_str().into());
            by.insert("tool".into(), call.name.as_str().into());
        }
        (!by.is_empty()).then(|| serde_json::Value::Object(by).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(id: &str, name: &str, paths: &[&str]) -> ToolCall {
        ToolCall {
            id: id.into(),
            name: name.into(),
            paths: paths.iter().map(|path| path.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn a_change_names_its_call_or_none() {
        let (f, g) = ("f".parse().unwrap(), "g".parse().unwrap());
        let mut tools = Tools::new(None);
        assert_eq!(tools.author(&f), None);
        tools.started(call("1", "Edit", &["f"]));
        assert!(tools.hold(&f) && !tools.hold(&g) && !tools.may_delete());
        assert!(tools.author(&f).unwrap().contains("Edit"));
        assert_eq!(tools.author(&g), None);
        tools.started(call("2", "Bash", &[]));
        assert!(tools.author(&f).unwrap().contains("Edit"));
        assert!(tools.author(&g).unwrap().contains("Bash") && tools.may_delete());
        tools.started(call("3", "Task", &[]));
        assert_eq!(tools.author(&g), None);
        tools.finished("1", Some("cookie".into()));
        assert!(tools.author(&f).unwrap().contains("Edit"));
        assert_eq!(tools.cookie("cookie").len(), 1);
        assert!(!tools.hold(&f));
        tools.finished("3", None);
        assert!(tools.author(&f).unwrap().contains("Bash"));
    }

    #[test]
    fn a_run_is_named_also_outside_a_call() {
        let tools = Tools::new(Some("r1".into()));
        let by = tools.author(&"f".parse().unwrap());
        assert_eq!(by.as_deref(), Some(r#"{"run":"r1"}"#));
    }
}
