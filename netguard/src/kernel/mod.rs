//! All contact with the machine: routes and links over rtnetlink, the translation table through `nft`, kernel switches
//! and the CNI file. Nothing here decides.

mod files;
mod messages;
mod read;
mod sysctl;
mod table;
mod watch;
mod write;

use std::collections::BTreeMap;

use futures::TryStreamExt;
use rtnetlink::packet_route::link::LinkAttribute;

pub use self::{
    files::CniFile,
    sysctl::Sysctls,
    table::NatTable,
    watch::{Watch, watch},
};

/// What went wrong in talking to the machine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No netlink socket.
    #[error("failed to open a netlink socket")]
    Open(#[source] std::io::Error),
    /// A dump or look-up.
    #[error("failed to read {what} from the kernel")]
    Read {
        /// What was asked for.
        what: &'static str,
        /// The kernel's answer.
        source: rtnetlink::Error,
    },
    /// A change.
    #[error("failed to {act} {what}: {source}")]
    Write {
        /// What was to be done.
        act: &'static str,
        /// To what.
        what: String,
        /// The kernel's answer.
        source: rtnetlink::Error,
    },
    /// The link a thing hangs on is not there.
    #[error("failed to {act} {what}: there is no link {link}")]
    NoLink {
        /// What was to be done.
        act: &'static str,
        /// To what.
        what: String,
        /// The missing link.
        link: String,
    },
    /// `nft` cannot be run.
    #[error("failed to run nft; the nftables package has to be where netguard runs")]
    NftMissing(#[source] std::io::Error),
    /// `nft` refused.
    #[error("nft refused to {act}: {said}")]
    Nft {
        /// What was to be done.
        act: &'static str,
        /// Its words.
        said: String,
    },
    /// A kernel switch.
    #[error(
        "{name} is {found} but must be {wanted}, and netguard cannot set it ({source}); on the host: sysctl -w {name}={wanted}"
    )]
    Sysctl {
        /// Its name.
        name: String,
        /// Its value.
        found: String,
        /// The value needed.
        wanted: &'static str,
        /// Why it could not be set.
        source: std::io::Error,
    },
    /// A kernel switch that is not there.
    #[error("failed to read {name}")]
    SysctlUnread {
        /// Its name.
        name: String,
        /// Why.
        source: std::io::Error,
    },
    /// The CNI file.
    #[error("failed to {act} {path}")]
    File {
        /// What was to be done.
        act: &'static str,
        /// To which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// A connection to the kernel's routing.
#[derive(Clone)]
pub struct Kernel {
    handle: rtnetlink::Handle,
}

impl Kernel {
    /// Open a connection in the network namespace of the calling thread.
    pub fn open() -> Result<Self, Error> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(Error::Open)?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// Names and numbers of all links.
    async fn link_numbers(&self) -> Result<Links, Error> {
        let mut links = Links::default();
        let mut found = self.handle.link().get().execute();
        while let Some(link) = found.try_next().await.map_err(|source| Error::Read { what: "links", source })? {
            for attribute in &link.attributes {
                if let LinkAttribute::IfName(name) = attribute {
                    links.0.insert(link.header.index, name.clone());
                }
            }
        }
        Ok(links)
    }
}

/// Link names by number.
#[derive(Debug, Default)]
struct Links(BTreeMap<u32, String>);

impl Links {
    fn name(&self, number: u32) -> String {
        self.0.get(&number).cloned().unwrap_or_else(|| format!("#{number}"))
    }

    fn number(&self, name: &str) -> Option<u32> {
        self.0.iter().find(|(_, known)| *known == name).map(|(number, _)| *number)
    }
}

/// Whether the kernel answered with this error number.
fn is_errno(error: &rtnetlink::Error, numbers: &[i32]) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(message) if numbers.contains(&message.raw_code().abs()))
}
