//! What operators should know of a port beyond what IANA says: the types, and the table of
//! `knowledge.toml`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::protocol::{Protocol, Protocols};

const TABLE: &str = include_str!("knowledge.toml");

/// What we know of one service on its usual port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Knowledge {
    /// The port.
    pub port: u16,
    /// On which protocols.
    #[serde(default = "tcp")]
    pub protocols: Protocols,
    /// Its name: IANA's, unless IANA gave the port to somebody whom nobody meets.
    pub service: String,
    /// Other names under which it is looked for.
    #[serde(default)]
    pub also: Vec<String>,
    /// What it is, in a few words; at most 48 characters.
    pub title: String,
    /// Its kind.
    pub category: Category,
    /// Whether others can read along.
    pub traffic: Traffic,
    /// Whether it should still be used.
    #[serde(default)]
    pub status: Status,
    /// What to use instead, the best first. Also of services that are current: HTTPS for HTTP.
    #[serde(default)]
    pub instead: Vec<Successor>,
    /// The programs that usually hold the port. Empty where the kernel does, or nobody should.
    #[serde(default)]
    pub holders: Vec<Holder>,
    /// Who should be able to reach it, at most.
    pub exposure: Exposure,
    /// What to do, in a sentence or two.
    pub advice: String,
    /// Where that comes from: RFCs, advisories, manuals.
    pub sources: Vec<String>,
}

fn tcp() -> Protocols {
    Protocols::TCP
}

impl Knowledge {
    /// Whether a program of this name usually holds the port. The kernel cuts names after 15 bytes
    /// (proc_pid_comm(5)); such a name is as good as the whole.
    #[must_use]
    pub fn expects_program(&self, name: &str) -> bool {
        const CUT: usize = 15;
        let same = |known: &str| {
            known == name || (name.len() == CUT && known.get(..CUT).is_some_and(|cut| cut == name))
        };
        self.holders.iter().any(|holder| same(&holder.program))
    }

    /// Whether a program of this Debian package usually holds the port.
    #[must_use]
    pub fn expects_package(&self, name: &str) -> bool {
        self.holders.iter().any(|holder| holder.package.as_deref() == Some(name))
    }

    /// Whether it is about this port and protocol.
    #[must_use]
    pub fn is_about(&self, port: u16, protocol: Protocol) -> bool {
        self.port == port && self.protocols.has(protocol)
    }

    /// Its own name, and the others.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.service).chain(&self.also).map(String::as_str)
    }
}

/// The table, in the order of the ports; a test sees that all of it can be read.
#[must_use]
pub(super) fn table() -> Vec<Knowledge> {
    read(TABLE).unwrap_or_default()
}

fn read(text: &str) -> Result<Vec<Knowledge>, toml::de::Error> {
    #[derive(Deserialize)]
    struct File {
        entry: Vec<Knowledge>,
    }
    toml::from_str(text).map(|file: File| file.entry)
}

/// What takes the place of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Successor {
    /// Its port.
    pub port: u16,
    /// Its name, and on what terms: `FTP over TLS`.
    pub name: String,
}

/// `990 FTP over TLS`
impl TryFrom<String> for Successor {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let (port, name) = text.split_once(' ').ok_or("a successor is a port and a name")?;
        let port = port.parse().map_err(|_| "a successor begins with its port")?;
        Ok(Self { port, name: name.to_owned() })
    }
}

impl fmt::Display for Successor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.port, self.name)
    }
}

/// A program that usually holds a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String")]
pub struct Holder {
    /// Its name, as `/proc/PID/comm` has it, but whole.
    pub program: String,
    /// The package that brings it: Debian's, or that of its maker's own Debian repository.
    pub package: Option<String>,
}

/// `sshd/openssh-server`, or `k3s-server`
impl From<String> for Holder {
    fn from(text: String) -> Self {
        match text.split_once('/') {
            Some((program, package)) => {
                Self { program: program.to_owned(), package: Some(package.to_owned()) }
            }
            None => Self { program: text, package: None },
        }
    }
}

/// Says each variant of a closed set by the word that the table, the queries and `--json` use.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name { $($(#[$of])* #[serde(rename = $word)] $variant,)+ }

        impl $name {
            /// Each of them.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The word for it.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $($name::$variant => $word,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.word())
            }
        }
    };
}

words! {
    /// What kind of service it is.
    Category {
        /// Sites and what stands in front of them.
        Web = "web",
        /// Sending, receiving and reading mail.
        Mail = "mail",
        /// Logging in from afar, and other people's screens.
        RemoteAccess = "remote-access",
        /// Moving and sharing files and disks.
        Files = "files",
        /// Names to addresses, and services on a network.
        Names = "names",
        /// Who people are: directories of them.
        Directory = "directory",
        /// Whether somebody is who they say.
        Identity = "identity",
        /// Databases and caches.
        Database = "database",
        /// Queues and brokers.
        Messaging = "messaging",
        /// Containers and their clusters.
        Containers = "containers",
        /// Metrics and checks.
        Monitoring = "monitoring",
        /// Log lines on their way.
        Logging = "logging",
        /// Consoles for administrators.
        Administration = "administration",
        /// Addresses and routes.
        Network = "network",
        /// Clocks.
        Time = "time",
        /// Tunnels.
        Vpn = "vpn",
        /// Forward proxies.
        Proxy = "proxy",
        /// Calls and video.
        Voice = "voice",
        /// Chat.
        Chat = "chat",
        /// Usenet.
        News = "news",
        /// Printing.
        Printing = "printing",
        /// Directories of remote procedures.
        Rpc = "rpc",
        /// Applications under development, or without a port of their own.
        Development = "development",
        /// The small services of early networks.
        Diagnostics = "diagnostics",
        /// Games.
        Game = "game",
    }
}

words! {
    /// Whether others on the way can read along.
    Traffic {
        /// Everybody can.
        Clear = "clear",
        /// They can until both sides agree on TLS, which somebody in between can prevent unless one
        /// side insists (RFC 8314 §3).
        Starttls = "starttls",
        /// It depends on how the service is set up; by default many are open.
        Optional = "optional",
        /// Nobody can.
        Encrypted = "encrypted",
    }
}

words! {
    /// Whether a service should still be used.
    #[derive(Default)]
    Status {
        /// Yes.
        #[default]
        Current = "current",
        /// Where it must be; there is something better.
        Legacy = "legacy",
        /// No.
        Obsolete = "obsolete",
    }
}

words! {
    /// Who should be able to reach a service, at most; each level takes in the next.
    Exposure {
        /// The internet.
        Public = "public",
        /// Networks and hosts that are known.
        Internal = "internal",
        /// This host.
        Loopback = "loopback",
        /// Nobody: nothing should listen there.
        Nowhere = "nowhere",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_whole() {
        let table = read(TABLE).unwrap();
        assert!(table.len() > 140);
        assert!(table.is_sorted_by_key(|known| known.port));
        for known in &table {
            let named = format!("{} {}", known.port, known.service);
            assert!(known.title.chars().count() <= 48, "{named}: {}", known.title);
            assert!(known.advice.ends_with(['.']), "{named}");
            assert!(!known.advice.contains("  ") && known.advice.len() <= 170, "{named}");
            assert!(!known.sources.is_empty(), "{named}");
            assert_ne!(known.protocols, Protocols::NONE, "{named}");
            assert!(known.instead.iter().all(|next| next.port != known.port), "{named}");
            let names: Vec<&str> = known.names().collect();
            assert!(names.iter().all(|name| *name == name.to_lowercase()), "{named}");
        }
    }

    #[test]
    fn no_port_and_protocol_is_told_of_twice() {
        let table = table();
        for (index, known) in table.iter().enumerate() {
            let twin = table
                .iter()
                .skip(index + 1)
                .find(|other| other.port == known.port && other.protocols.meets(known.protocols));
            assert_eq!(twin, None);
        }
    }

    #[test]
    fn what_should_not_be_used_has_its_reason_and_what_is_in_clear_its_successor() {
        let table = table();
        let known = |port| table.iter().find(|known| known.port == port).unwrap();
        let successors = |port| known(port).instead.iter().map(|s| s.port).collect::<Vec<_>>();
        for (port, safe) in [
            (21, vec![22, 990]),
            (23, vec![22]),
            (25, vec![465, 587]),
            (80, vec![443]),
            (110, vec![995, 993]),
            (119, vec![563]),
            (143, vec![993]),
            (389, vec![636]),
            (512, vec![22]),
            (513, vec![22]),
            (514, vec![22]),
            (2375, vec![2376, 22]),
            (5060, vec![5061]),
        ] {
            assert_eq!(successors(port), safe, "{port}");
        }
        assert_eq!(successors(53).first(), Some(&853));
        for port in [7, 11, 19, 23, 79, 512, 513, 514] {
            assert_eq!(known(port).status, Status::Obsolete, "{port}");
            assert_eq!(known(port).exposure, Exposure::Nowhere, "{port}");
        }
        for known in &table {
            let obsolete = known.status == Status::Obsolete;
            assert!(!obsolete || known.exposure == Exposure::Nowhere, "{}", known.port);
        }
    }

    #[test]
    fn the_best_known_ports_are_all_there() {
        let table = table();
        let well_known = [
            1, 7, 9, 11, 13, 17, 19, 20, 21, 22, 23, 25, 37, 43, 49, 53, 67, 68, 69, 79, 80, 88,
            109, 110, 111, 113, 119, 123, 135, 137, 138, 139, 143, 161, 162, 177, 179, 194, 389,
            427, 443, 445, 464, 465, 500, 512, 513, 514, 515, 520, 521, 540, 546, 547, 548, 554,
            563, 587, 593, 623, 631, 636, 749, 853, 873, 989, 990, 992, 993, 995,
        ];
        let registered = [
            1194, 1433, 1521, 1883, 2049, 2375, 2376, 2379, 3000, 3128, 3306, 3389, 4369, 4500,
            5060, 5061, 5432, 5601, 5672, 5900, 6379, 6443, 7000, 7001, 8080, 8086, 8443, 8883,
            9000, 9090, 9092, 9100, 9200, 10250, 11211, 15672, 25565, 27017, 51820,
        ];
        for port in well_known.into_iter().chain(registered) {
            assert!(table.iter().any(|known| known.port == port), "{port}");
        }
    }

    #[test]
    fn a_holder_is_known_by_its_cut_name_too() {
        let table = table();
        let exporter = table.iter().find(|known| known.port == 8888).unwrap();
        assert!(exporter.expects_program("jupyter-noteboo"));
        assert!(exporter.expects_package("jupyter-notebook"));
        let ssh = table.iter().find(|known| known.port == 22).unwrap();
        assert!(ssh.expects_program("sshd") && ssh.expects_package("openssh-server"));
        assert!(!ssh.expects_program("ssh") && !ssh.expects_package("nginx"));
    }

    #[test]
    fn a_slip_in_the_table_is_an_error() {
        let good = "[[entry]]\nport = 1\nservice = 's'\ntitle = 't'\ncategory = 'web'\n\
                    traffic = 'clear'\nexposure = 'public'\nadvice = 'a.'\nsources = ['RFC 1']\n";
        assert_eq!(read(good).unwrap()[0].protocols, Protocols::TCP);
        assert_eq!(read(good).unwrap()[0].status, Status::Current);
        for slip in [
            good.replace("'web'", "'wob'"),
            format!("{good}advise = 'x'\n"),
            format!("{good}instead = ['x']\n"),
        ] {
            assert!(read(&slip).is_err(), "{slip}");
        }
    }
}
