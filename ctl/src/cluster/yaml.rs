//! The one file that knows YAML: text to a tree in which every value keeps its place, and values to text.

use std::collections::HashMap;
use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, StrInput};
use serde::Serialize;

use super::problem::Problem;
use crate::exit::Failure;

/// Bytes between which something stands.
pub type Span = Range<usize>;

/// More values than any real cluster has. Aliases multiply, so a file of a kilobyte may stand for gigabytes.
const MOST_VALUES: usize = 20_000;
/// Deeper than any field of ours lies.
const MOST_LEVELS: usize = 32;

/// A value and its place.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where it stands.
    pub span: Span,
    /// What it is.
    pub value: Value,
}

/// A value as YAML 1.2 reads it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i128),
    /// Any other number, as written.
    Float(String),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// Fields, in the order of the file. A name may stand twice: saying so is the reader's work.
    Map(Vec<Entry>),
}

/// One field of a map.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its name.
    pub key: String,
    /// Where the name stands.
    pub key_span: Span,
    /// Its value.
    pub node: Node,
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Node {
    /// The field of a map, the first one of that name.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node),
            _ => None,
        }
    }

    /// The field at a path of names.
    pub fn at(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    /// Where the name of a field stands.
    pub fn name_of(&self, key: &str) -> Option<&Span> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.key_span),
            _ => None,
        }
    }

    /// The items of a list; none if it is no list.
    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// The text, if it is text.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The whole number, if it is one.
    pub fn integer(&self) -> Option<i128> {
        match self.value {
            Value::Integer(number) => Some(number),
            _ => None,
        }
    }

    /// The value as JSON, for serde. Places are lost, so everything a person may get wrong is checked before.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Integer(number) => {
                i64::try_from(*number).map_or_else(|_| Json::String(number.to_string()), Json::from)
            }
            Value::Float(text) => Json::String(text.clone()),
            Value::Text(text) => Json::String(text.clone()),
            Value::List(items) => items.iter().map(Node::to_json).collect(),
            Value::Map(entries) => {
                Json::Object(entries.iter().map(|entry| (entry.key.clone(), entry.node.to_json())).collect())
            }
        }
    }

    fn weight(&self) -> usize {
        match &self.value {
            Value::List(items) => 1 + items.iter().map(Node::weight).sum::<usize>(),
            Value::Map(entries) => 1 + entries.iter().map(|entry| 1 + entry.node.weight()).sum::<usize>(),
            _ => 1,
        }
    }
}

/// A value as a YAML document.
pub fn write<T: Serialize>(value: &T) -> Result<String, Failure> {
    serde_yaml::to_string(value).map_err(|error| Failure::fault("failed to write YAML").because(error))
}

/// Read one document.
pub fn read(text: &str) -> Result<Node, Problem> {
    Reader::new(text).document()
}

struct Reader<'a> {
    text: &'a str,
    /// Byte offset of each character: the parser counts characters.
    offsets: Vec<usize>,
    parser: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    values: usize,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        let mut offsets: Vec<usize> = text.char_indices().map(|(offset, _)| offset).collect();
        offsets.push(text.len());
        let parser = Parser::new_from_str(text);
        Reader { text, offsets, parser, anchors: HashMap::new(), values: 0 }
    }

    fn document(mut self) -> Result<Node, Problem> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
                Event::StreamEnd => break,
                _ if root.is_some() => {
                    return Err(Problem::at(span, "a second document begins here")
                        .label("`---` above starts another document")
                        .hint("a cluster.yaml holds one cluster; give the other one a file of its own"));
                }
                event => root = Some(self.node(event, span, 0)?),
            }
        }
        match root {
            Some(Node { value: Value::Null, .. }) | None => {
                Err(Problem::at(0..0, "the file is empty")
                    .hint("`hzctl init` writes a cluster.yaml from a list of hosts"))
            }
            Some(root) => Ok(root),
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), Problem> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, self.bytes(span.start.index())..self.bytes(span.end.index()))),
            Some(Err(error)) => Err(self.not_yaml(self.bytes(error.marker().index()), error.info())),
            None => Ok((Event::StreamEnd, self.text.len()..self.text.len())),
        }
    }

    fn bytes(&self, character: usize) -> usize {
        self.offsets.get(character).copied().unwrap_or(self.text.len())
    }

    fn node(&mut self, event: Event<'a>, span: Span, level: usize) -> Result<Node, Problem> {
        if level > MOST_LEVELS {
            return Err(Problem::at(span, format!("nested deeper than {MOST_LEVELS} levels")));
        }
        self.count(1, &span)?;
        let (value, anchor, span) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.no_tag(tag.is_some(), &span)?;
                (scalar(&text, style), anchor, span)
            }
            Event::SequenceStart(anchor, tag) => {
                self.no_tag(tag.is_some(), &span)?;
                let (items, end) = self.list(level)?;
                (Value::List(items), anchor, span.start..end.max(span.start))
            }
            Event::MappingStart(anchor, tag) => {
                self.no_tag(tag.is_some(), &span)?;
                let (entries, end) = self.map(level)?;
                (Value::Map(entries), anchor, span.start..end.max(span.start))
            }
            Event::Alias(anchor) => return self.alias(anchor, &span),
            other => return Err(Problem::at(span, format!("not YAML: unexpected {other:?}"))),
        };
        let node = Node { span, value };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, level: usize) -> Result<(Vec<Node>, usize), Problem> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, span) => return Ok((items, span.end)),
                (event, span) => items.push(self.node(event, span, level + 1)?),
            }
        }
    }

    fn map(&mut self, level: usize) -> Result<(Vec<Entry>, usize), Problem> {
        let mut entries = Vec::new();
        loop {
            let (key, key_span) = match self.next()? {
                (Event::MappingEnd, span) => return Ok((entries, span.end)),
                (Event::Scalar(key, ..), span) => (key.into_owned(), span),
                (_, span) => return Err(Problem::at(span, "a field's name must be plain text")),
            };
            let (event, span) = self.next()?;
            let mut node = self.node(event, span, level + 1)?;
            if node.value == Value::Null && node.span.is_empty() {
                // `key:` with nothing behind: show the name, since the nothing has no place.
                node.span = key_span.clone();
            }
            entries.push(Entry { key, key_span, node });
        }
    }

    fn alias(&mut self, anchor: usize, span: &Span) -> Result<Node, Problem> {
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            return Err(Problem::at(span.clone(), "an alias inside the value it stands for").label("has no end"));
        };
        self.count(node.weight(), span)?;
        Ok(node)
    }

    fn count(&mut self, more: usize, span: &Span) -> Result<(), Problem> {
        self.values = self.values.saturating_add(more);
        if self.values <= MOST_VALUES {
            return Ok(());
        }
        Err(Problem::at(span.clone(), format!("the file stands for more than {MOST_VALUES} values"))
            .label("here the limit is passed")
            .hint("aliases (`*name`) repeat all they stand for; write fewer of them"))
    }

    fn no_tag(&self, tagged: bool, span: &Span) -> Result<(), Problem> {
        if !tagged {
            return Ok(());
        }
        Err(Problem::at(span.clone(), "YAML tags (`!name`) have no meaning here")
            .hint("remove the tag; quotes make text"))
    }

    /// The parser's words, made plainer where the usual cause is known.
    fn not_yaml(&self, offset: usize, info: &str) -> Problem {
        if let Some(tab) = self.tab_in_indent(offset) {
            return Problem::at(tab..tab + 1, "a tab indents this line")
                .label("a tab")
                .hint("YAML knows only spaces here; replace each tab by two spaces");
        }
        let problem = Problem::at(offset..offset, format!("not YAML: {info}"));
        if info.contains("unknown anchor") {
            return Problem::at(offset..offset, "an alias (`*name`) that nothing before it is named by")
                .hint("name the value with `&name` first, or quote text that starts with `*`");
        }
        if info.contains("quoted scalar") || info.contains("unclosed") || info.contains("end of stream") {
            return problem.hint("a quote or a bracket is opened and not closed");
        }
        problem.hint(
            "look at this line and the one above: indentation, a missing `:` or space, an unclosed quote or bracket",
        )
    }

    /// The first tab in the indentation at or above the place where the parser gave up.
    fn tab_in_indent(&self, offset: usize) -> Option<usize> {
        let mut start = 0;
        for line in self.text.split_inclusive('\n') {
            let indent = line.len() - line.trim_start_matches([' ', '\t']).len();
            let blank = line.trim().is_empty();
            if let (false, Some(tab)) = (blank, line[..indent].find('\t')) {
                return Some(start + tab);
            }
            start += line.len();
            if start > offset {
                return None;
            }
        }
        None
    }
}

/// What a scalar means: YAML 1.2's core schema. Quoted is always text.
fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::Text(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map_or_else(|_| Value::Float(text.to_owned()), Value::Integer);
    }
    for (prefix, base) in [("0x", 16), ("0o", 8)] {
        if let Some(number) = text.strip_prefix(prefix).and_then(|digits| i128::from_str_radix(digits, base).ok()) {
            return Value::Integer(number);
        }
    }
    let starts_as_number = digits.starts_with(|first: char| first.is_ascii_digit() || first == '.');
    if starts_as_number && text.parse::<f64>().is_ok() || matches!(digits, ".inf" | ".nan" | ".Inf" | ".NaN") {
        return Value::Float(text.to_owned());
    }
    Value::Text(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_keeps_its_place_in_bytes() {
        let text = "name: Müller\nhosts: [ä, 2]\r\nlast: x\n";
        let root = read(text).unwrap();
        let place = |node: &Node| &text[node.span.clone()];
        assert_eq!(place(root.get("name").unwrap()), "Müller");
        assert_eq!(place(&root.get("hosts").unwrap().items()[0]), "ä");
        assert_eq!(place(root.get("last").unwrap()), "x");
    }

    #[test]
    fn plain_scalars_are_read_as_yaml_1_2_says() {
        let kinds = [
            ("1", Value::Integer(1)),
            ("0x10", Value::Integer(16)),
            ("yes", Value::Text("yes".into())),
            ("1.5", Value::Float("1.5".into())),
            ("10.77.0.11", Value::Text("10.77.0.11".into())),
            ("~", Value::Null),
            ("true", Value::Bool(true)),
        ];
        for (text, value) in kinds {
            assert_eq!(scalar(text, ScalarStyle::Plain), value, "{text}");
        }
    }

    #[test]
    fn an_alias_stands_for_its_value_and_a_bomb_does_not_go_off() {
        let root = read("a: &x [1, 2]\nb: *x\n").unwrap();
        assert_eq!(root.get("b").unwrap().items().len(), 2);
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..30 {
            let list = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{list}]\n"));
        }
        assert!(read(&bomb).unwrap_err().message.contains("more than 20000 values"));
    }

    #[test]
    fn deep_nesting_is_refused_without_overflowing_the_stack() {
        assert!(read(&"[".repeat(100_000)).is_err());
        assert!(read(&format!("a: {}", "{b: ".repeat(5_000))).is_err());
        assert!(read(&"- ".repeat(50_000)).is_err());
    }
}
