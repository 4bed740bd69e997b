//! Several ports, a line each.

use super::here::Here;
use super::page::{Page, cell};
use crate::audit::registry::{Entry, Knowledge, Protocols, Range, State, Status, Traffic};

/// So many rows are shown when nobody asked for all.
pub(super) const ROWS: usize = 100;

/// So many listeners are told below a table.
const LISTENERS: usize = 20;

/// Between two columns.
const GAP: &str = "  ";

/// The widest that a name may be.
const NAME: usize = 18;

/// A line: one service on a port, or ports in a row that nobody has.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    first: u16,
    last: u16,
    protocols: Protocols,
    service: String,
    what: String,
    note: String,
    mood: Mood,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Plain,
    Good,
    Doubtful,
    Bad,
}

impl Row {
    fn of_knowledge(known: &Knowledge) -> Self {
        let (word, mood) = match (known.status, known.traffic) {
            (Status::Obsolete, _) => ("obsolete", Mood::Bad),
            (Status::Legacy, _) => ("legacy", Mood::Doubtful),
            (Status::Current, Traffic::Clear) => ("clear text", Mood::Doubtful),
            (Status::Current, Traffic::Starttls) => ("STARTTLS", Mood::Plain),
            (Status::Current, Traffic::Optional) => ("may encrypt", Mood::Plain),
            (Status::Current, Traffic::Encrypted) => ("encrypted", Mood::Good),
        };
        let needs_safer = mood != Mood::Good;
        let safer = known.instead.first().filter(|_| needs_safer);
        let safer = safer.map(|next| format!(" -> {}", next.port));
        Self {
            first: known.port,
            last: known.port,
            protocols: known.protocols,
            service: known.service.clone(),
            what: known.title.clone(),
            note: word.to_owned() + &safer.unwrap_or_default(),
            mood,
        }
    }

    fn nobody(port: u16, what: &str) -> Self {
        Self {
            first: port,
            last: port,
            protocols: Protocols::NONE,
            service: "-".to_owned(),
            what: what.to_owned(),
            note: String::new(),
            mood: Mood::Plain,
        }
    }

    /// `514/udp`, `272-279`
    fn ports(&self) -> String {
        let ports = match self.first == self.last {
            true => self.first.to_string(),
            false => format!("{}-{}", self.first, self.last),
        };
        match self.protocols {
            Protocols::NONE | Protocols::ALL => ports,
            some => format!("{ports}/{some}"),
        }
    }

    /// Takes in a row that says the same of the next port.
    fn absorb(&mut self, next: &Row) -> bool {
        let follows = self.last.checked_add(1) == Some(next.first);
        let same = self.protocols == Protocols::NONE
            && next.protocols == Protocols::NONE
            && self.what == next.what;
        if follows && same {
            self.last = next.last;
        }
        follows && same
    }
}

/// The lines of an entry: ours, and those of IANA's that are about something else.
fn rows(entry: &Entry<'_>) -> Vec<Row> {
    let known = entry.knowledge.iter().fold(Protocols::NONE, |all, one| all.with(one.protocols));
    let mut rows: Vec<Row> = entry.knowledge.iter().map(|one| Row::of_knowledge(one)).collect();
    for one in entry.assigned() {
        let is_ours = entry.knowledge.iter().any(|known| known.service == one.service);
        if is_ours || one.protocols.meets(known) {
            continue;
        }
        let what = if one.description.is_empty() { one.service } else { one.description };
        let twin = rows.iter_mut().find(|row| row.what == what && row.protocols == one.protocols);
        if let Some(twin) = twin {
            if !one.service.is_empty() {
                twin.service += &format!(", {}", one.service);
            }
            continue;
        }
        let service = if one.service.is_empty() { "-" } else { one.service };
        let row = Row::nobody(entry.port, what);
        rows.push(Row { protocols: one.protocols, service: service.to_owned(), ..row });
    }
    if rows.is_empty() {
        rows.push(Row::nobody(entry.port, vacant(entry)));
    }
    rows
}

/// What to say of a port that no service has.
fn vacant(entry: &Entry<'_>) -> &'static str {
    match (entry.range(), entry.state()) {
        (Range::Dynamic, _) => "dynamic: never assigned",
        (_, State::Reserved) => "reserved",
        _ => "unassigned",
    }
}

/// A table of at most so many lines, in which ports that nobody has share one.
pub(super) fn table(entries: &[Entry<'_>], most: usize, page: &Page) -> String {
    let mut shown: Vec<Row> = Vec::new();
    let mut left = 0;
    for row in entries.iter().flat_map(rows) {
        if shown.last_mut().is_some_and(|last| left == 0 && last.absorb(&row)) {
            continue;
        }
        if shown.len() < most { shown.push(row) } else { left += 1 }
    }
    let mut out = lines(&shown, page);
    if left > 0 {
        out += &format!("... and {left} more: ask for less, or for all of it with --all\n");
    }
    out
}

fn lines(rows: &[Row], page: &Page) -> String {
    let widest = |column: fn(&Row) -> usize| rows.iter().map(column).max().unwrap_or(0);
    let ports = widest(|row| row.ports().len()).max("PORT".len());
    let service = widest(|row| row.service.chars().count()).clamp("SERVICE".len(), NAME);
    let note = widest(|row| row.note.len());
    let gaps = if note == 0 { 2 } else { 3 } * GAP.len();
    let what = page.width.saturating_sub(ports + service + note + gaps).max("WHAT IT IS".len());
    let note_head = if note == 0 { "" } else { "NOTE -> SAFER" };
    let line = |ports_cell: &str, name: &str, text: &str, last: &str| {
        let (name, text) = (cell(name, service), cell(text, what));
        format!("{}{GAP}{name}{GAP}{text}{GAP}{last}", cell(ports_cell, ports))
    };
    let head = line("PORT", "SERVICE", "WHAT IT IS", note_head);
    let mut out = page.bold(head.trim_end()) + "\n";
    for row in rows {
        let painted = match row.mood {
            Mood::Plain => row.note.clone(),
            Mood::Good => page.good(&row.note),
            Mood::Doubtful => page.doubtful(&row.note),
            Mood::Bad => page.bad(&row.note),
        };
        let text = line(&row.ports(), &row.service, &row.what, &painted);
        out += text.trim_end();
        out.push('\n');
    }
    out
}

/// Who listens on these ports here; `question` is what was asked.
pub(super) fn listening(entries: &[Entry<'_>], question: &str, here: &Here, page: &Page) -> String {
    if let Some(error) = here.error() {
        return format!("\nWho listens here is unknown: {error}\n");
    }
    let mut lines = Vec::new();
    let mut unseen = false;
    for entry in entries {
        for held in here.held(entry.port) {
            unseen |= !held.is_known;
            let label = format!("  {:<9}", entry.port);
            lines.push(page.paragraph(&label, "           ", &held.to_string()));
        }
    }
    let mut out = match lines.len() {
        0 => return "\nNobody listens on any of them here (TCP).\n".to_owned(),
        _ => "\nListening here (TCP):\n".to_owned(),
    };
    let more = lines.len().saturating_sub(LISTENERS);
    out.extend(lines.into_iter().take(LISTENERS));
    if more > 0 {
        out += &format!("  ... and {more} more: ask for fewer ports\n");
    }
    let remedy = here.remedy(question).filter(|_| unseen);
    out + &remedy.map(|remedy| format!("  {remedy}\n")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::here::tests::socket;
    use super::*;
    use crate::audit::registry::{Query, Registry};

    fn told(question: &str, width: usize, most: usize) -> String {
        let registry = Registry::read();
        let found = registry.find(&Query::parse(question).unwrap(), false);
        table(&found.entries, most, &Page::plain(width))
    }

    #[test]
    fn a_range_is_a_line_for_each_service() {
        let text = told("20-25", 80, ROWS);
        let ports: Vec<_> = text.lines().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(ports, ["PORT", "20/tcp", "21/tcp", "22/tcp", "23/tcp", "24/tcp,udp", "25/tcp"]);
        assert!(text.contains("obsolete -> 22") && text.contains("STARTTLS -> 465"), "{text}");
    }

    #[test]
    fn ports_that_nobody_has_share_a_line() {
        assert!(told("272-290", 80, ROWS).contains("\n272-279"));
        let dynamic = told("49152-65535", 80, ROWS);
        assert!(
            dynamic.contains("\n49152-49999") && dynamic.contains("\n51821-65535"),
            "{dynamic}"
        );
        assert_eq!(dynamic.lines().count(), 6, "{dynamic}");
        let apart = told("4,6", 80, ROWS);
        assert!(apart.contains("\n4 ") && apart.contains("\n6 "), "{apart}");
    }

    #[test]
    fn every_table_keeps_to_the_width() {
        for width in [80, 100] {
            for question in ["0-1023", "1024-3000", "web", "database"] {
                let text = told(question, width, usize::MAX);
                let long = text.lines().find(|line| line.chars().count() > width);
                assert_eq!(long, None, "{question}");
            }
        }
    }

    #[test]
    fn too_many_lines_are_counted_and_not_shown() {
        let text = told("0-1023", 80, ROWS);
        assert_eq!(text.lines().count(), ROWS + 2);
        assert!(text.lines().last().unwrap().starts_with("... and "), "{text}");
    }

    #[test]
    fn other_services_on_a_known_port_are_told_too() {
        let text = told("512,513", 100, ROWS);
        assert!(text.contains("512/tcp") && text.contains("512/udp") && text.contains("513/udp"));
        assert_eq!(told("80", 100, ROWS).lines().count(), 2);
    }

    #[test]
    fn listeners_are_told_below() {
        let registry = Registry::read();
        let entries = [registry.entry(22), registry.entry(80)];
        let page = Page::plain(100);
        let seen = Here::of(Ok(vec![socket("0.0.0.0:22", true)]), false);
        let text = listening(&entries, "22,80", &seen, &page);
        let line = "  22       0.0.0.0 by sshd (pid 612, user root, ssh.service)\n";
        assert!(text.ends_with(line), "{text}");
        let nobody = listening(&entries, "22,80", &Here::of(Ok(Vec::new()), false), &page);
        assert!(nobody.contains("Nobody listens"), "{nobody}");
        let many = (0..30).map(|n| socket(&format!("127.0.0.{n}:22"), n % 2 == 0)).collect();
        let many = listening(&entries, "22,80", &Here::of(Ok(many), false), &page);
        assert!(many.contains("To see who: sudo portcullis ports 22,80\n"), "{many}");
    }
}
