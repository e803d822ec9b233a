//! Commands that decide which nodes there are, and which shards they keep.

use clap::{Args, Subcommand};
use miroir_api::NodeId;

/// How far a change of the topology goes: its plan, its beginning, its end.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Begin {
    /// Print the plan, and begin nothing. Exits with 1 if the change cannot begin.
    #[arg(long, conflicts_with_all = ["yes", "wait"])]
    pub(crate) dry_run: bool,
    /// Begin it.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Wait until it has ended. Exits with 1 if it was rolled back.
    #[arg(long)]
    pub(crate) wait: bool,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Topology {
    /// Goes on with a store that is behind its nodes, as it is after it was restored from a copy.
    AcceptStore {
        /// Says that what the store does not know may stay unknown.
        #[arg(long)]
        yes: bool,
    },
    /// Compares the store with what the nodes hold, and goes on with it where nothing differs.
    Rebuild,
    /// Sets how many copies of each shard every group keeps.
    ReplicationFactor {
        /// How many.
        copies: u32,
        #[command(flatten)]
        begin: Begin,
    },
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Node {
    /// Adds an empty node to a group: it gets a share of the group's shards.
    Add {
        /// The id it is to have. Placement hashes it, and no other node ever had it.
        #[arg(value_parser = NodeId::new)]
        id: NodeId,
        /// Its base URL, `http://host:port`.
        address: String,
        /// The replica group it is to belong to.
        #[arg(long, default_value_t = 0)]
        group: u32,
        #[command(flatten)]
        begin: Begin,
    },
    /// Adds an empty node that gets no shards before another of its group fails.
    Spare {
        /// The id it is to have. Placement hashes it, and no other node ever had it.
        #[arg(value_parser = NodeId::new)]
        id: NodeId,
        /// Its base URL, `http://host:port`.
        address: String,
        /// The replica group it is to belong to.
        #[arg(long, default_value_t = 0)]
        group: u32,
    },
    /// Moves the shards of a node to the others of its group.
    Drain {
        /// Id of the node, as `topology` lists it.
        id: String,
        #[command(flatten)]
        begin: Begin,
    },
    /// Moves the shards of a node away, and has a new one join its group, in one change.
    Replace {
        /// Id of the node that goes, as `topology` lists it.
        id: String,
        /// The id that the new node is to have.
        #[arg(value_parser = NodeId::new)]
        new_id: NodeId,
        /// Base URL of the new node, `http://host:port`.
        address: String,
        #[command(flatten)]
        begin: Begin,
    },
    /// Forgets a node that has no shards. What is on its disk stays there.
    Remove {
        /// Id of the node, as `topology` lists it.
        id: String,
        /// Says that the node may be forgotten.
        #[arg(long)]
        yes: bool,
    },
    /// Throws away what a node with another node's disk has, and builds the node anew.
    DiscardDisk {
        /// Id of the node, as `topology` lists it.
        id: String,
        /// Says that the disk that is mounted there now may be thrown away.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Group {
    /// Adds a group of empty nodes, which gets a copy of everything.
    Add {
        /// Its number, which no group has yet.
        #[arg(long)]
        group: u32,
        /// Its nodes, each as its id and its base URL.
        #[arg(required = true, value_name = "ID=ADDRESS")]
        nodes: Vec<Member>,
        #[command(flatten)]
        begin: Begin,
    },
    /// Takes all shards from the nodes of a group. The other groups have them.
    Remove {
        /// Its number.
        group: u32,
        #[command(flatten)]
        begin: Begin,
    },
}

/// A node of a new group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) id: NodeId,
    pub(crate) address: String,
}

impl std::str::FromStr for Member {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = "nodes are written as id=address, for example d=http://10.0.0.4:7700";
        let (id, address) = text.split_once('=').ok_or(wrong)?;
        let id = NodeId::new(id).map_err(|error| error.to_string())?;
        if address.is_empty() {
            return Err(wrong.to_owned());
        }
        Ok(Self { id, address: address.to_owned() })
    }
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Operation {
    /// Lists the operation under way and the last that have ended.
    List,
    /// Shows one operation, and what it waits for.
    Show {
        /// Its id, as `list` shows it.
        id: String,
    },
    /// Keeps an operation from copying more and from reaching the next phase.
    Pause {
        /// Its id, as `list` shows it.
        id: String,
    },
    /// Has an operation that is paused go on.
    Resume {
        /// Its id, as `list` shows it.
        id: String,
    },
    /// Takes an operation back: the layout from before is to be the only one again.
    Rollback {
        /// Its id, as `list` shows it.
        id: String,
    },
    /// Prints how an operation goes on until it has ended. Exits with 1 if it was rolled back.
    Watch {
        /// Its id, as `list` shows it.
        id: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_an_id_and_an_address() {
        let member: Member = "d=http://h:1?a=b".parse().unwrap();
        assert_eq!((member.id.as_str(), member.address.as_str()), ("d", "http://h:1?a=b"));
        for (text, says) in [("d", "id=address"), ("d=", "id=address"), ("d/e=http://h", "`d/e`")] {
            let error = text.parse::<Member>().unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
