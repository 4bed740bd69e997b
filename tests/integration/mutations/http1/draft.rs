//! A request in parts, so that each of them can be bent.

use crate::mutations::dice::Dice;
use crate::mutations::marker::marker;

/// A request before it is bytes.
#[derive(Clone, Debug)]
pub struct Draft {
    /// What stands before the request line; nothing, by right.
    pub lead: Vec<u8>,
    /// Method, target and version.
    pub words: [Vec<u8>; 3],
    /// What stands between them, and the end of the line.
    pub gaps: [Vec<u8>; 3],
    /// The fields in their order.
    pub fields: Vec<Field>,
    /// The empty line.
    pub end: Vec<u8>,
    /// What comes behind the head.
    pub body: Body,
    /// The mark of who sends it.
    pub marker: String,
}

/// A field line.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its name.
    pub name: Vec<u8>,
    /// The colon and the space behind it.
    pub colon: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
    /// The end of the line.
    pub eol: Vec<u8>,
}

/// A body with its framing.
#[derive(Clone, Debug)]
pub enum Body {
    /// As it is.
    Plain(Vec<u8>),
    /// In chunks, and what comes behind the last of them.
    Chunked(Vec<Chunk>, Vec<u8>),
}

/// A chunk: its size, the end of that line, its data, and what ends it.
pub type Chunk = [Vec<u8>; 4];

impl Draft {
    /// A request that every server takes.
    pub fn valid(dice: &mut Dice, case: u32, number: usize) -> Self {
        let marker = marker(case, number);
        let get = ["GET", "GET", "GET", "HEAD", "OPTIONS", "DELETE"];
        let post = ["POST", "POST", "PUT", "PATCH", "DELETE", "GET", "QUERY"];
        let text = format!("{marker}+{}", "x".repeat(dice.below(40))).into_bytes();
        let (method, framing, body) = match dice.below(5) {
            0 | 1 => (dice.pick(&get), None, Body::Plain(Vec::new())),
            2 => {
                let length = text.len().to_string();
                (dice.pick(&post), Some(("Content-Length", length)), Body::Plain(text))
            }
            3 => {
                // Another request, for whoever mistakes where this one ends.
                let smuggled = smuggled(&marker);
                let length = smuggled.len().to_string();
                (dice.pick(&post), Some(("Content-Length", length)), Body::Plain(smuggled))
            }
            _ => {
                let body = Body::chunked(dice, &text);
                (dice.pick(&post), Some(("Transfer-Encoding", "chunked".to_owned())), body)
            }
        };
        let mut draft = Self {
            lead: Vec::new(),
            words: [method.into(), format!("/{marker}").into(), b"HTTP/1.1".to_vec()],
            gaps: [b" ".to_vec(), b" ".to_vec(), b"\r\n".to_vec()],
            fields: vec![Field::of("Host", "app.test"), Field::of("X-Marker", &marker)],
            end: b"\r\n".to_vec(),
            body,
            marker,
        };
        if let Some((name, value)) = framing {
            let at = dice.below(3);
            draft.fields.insert(at, Field::of(name, value));
        }
        draft
    }

    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.lead.clone();
        for (word, gap) in self.words.iter().zip(&self.gaps) {
            bytes.extend(word);
            bytes.extend(gap);
        }
        for field in &self.fields {
            for part in [&field.name, &field.colon, &field.value, &field.eol] {
                bytes.extend(part);
            }
        }
        bytes.extend(&self.end);
        match &self.body {
            Body::Plain(text) => bytes.extend(text),
            Body::Chunked(chunks, last) => {
                bytes.extend(chunks.concat().concat());
                bytes.extend(last);
            }
        }
        bytes
    }

    /// Adds a field at any place.
    pub fn add(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>, dice: &mut Dice) {
        let at = dice.below(self.fields.len() + 1);
        self.fields.insert(at, Field::of(name, value));
    }

    /// Any field.
    pub fn any_field(&mut self, dice: &mut Dice) -> &mut Field {
        if self.fields.is_empty() {
            self.fields.push(Field::of("X-Any", "any"));
        }
        let at = dice.below(self.fields.len());
        &mut self.fields[at]
    }

    /// The field that frames the body; it is added where there is none.
    pub fn framing(&mut self, dice: &mut Dice) -> &mut Field {
        let is_framing = |field: &Field| {
            let name = field.name.to_ascii_lowercase();
            name == b"content-length" || name == b"transfer-encoding"
        };
        if let Some(at) = self.fields.iter().position(is_framing) {
            return &mut self.fields[at];
        }
        let name = dice.pick(&["Content-Length", "Transfer-Encoding"]);
        let value = if name == "Content-Length" { "0" } else { "chunked" };
        self.fields.push(Field::of(name, value));
        self.fields.last_mut().expect("it was pushed")
    }

    /// The body in chunks; made of what there is.
    pub fn chunks(&mut self, dice: &mut Dice) -> (&mut Vec<Chunk>, &mut Vec<u8>) {
        if let Body::Plain(text) = &self.body {
            let text = text.clone();
            self.body = Body::chunked(dice, &text);
            let framing = self.framing(dice);
            *framing = Field::of("Transfer-Encoding", "chunked");
        }
        match &mut self.body {
            Body::Chunked(chunks, last) => (chunks, last),
            Body::Plain(_) => unreachable!("it was made to chunks"),
        }
    }
}

impl Field {
    /// A field as it is usually written.
    pub fn of(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        let (name, value) = (name.as_ref().to_vec(), value.as_ref().to_vec());
        Self { name, colon: b": ".to_vec(), value, eol: b"\r\n".to_vec() }
    }
}

impl Body {
    /// `text` in chunks of any size.
    fn chunked(dice: &mut Dice, text: &[u8]) -> Self {
        let pieces = text.chunks(1 + dice.below(48));
        let chunks = pieces.map(|data| {
            let size = format!("{:x}", data.len()).into_bytes();
            [size, b"\r\n".to_vec(), data.to_vec(), b"\r\n".to_vec()]
        });
        Self::Chunked(chunks.collect(), b"0\r\n\r\n".to_vec())
    }
}

/// A request that must only ever be a body.
pub fn smuggled(marker: &str) -> Vec<u8> {
    format!("GET /smuggled/{marker} HTTP/1.1\r\nHost: app.test\r\nX-Marker: {marker}\r\n\r\n")
        .into()
}
