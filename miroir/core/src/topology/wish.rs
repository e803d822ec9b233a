//! What an operator may want of a layout, and the layout that does it.

use miroir_api::{GroupId, NodeId};

use super::{Layout, Seat, address_key};

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// These nodes get shards, each in the group it names, which is there already.
    Join(Vec<Seat>),
    /// These nodes have no shards any more.
    Drain(Vec<NodeId>),
    /// A node has no shards any more, and another one of its group gets some.
    Replace {
        /// The node that goes.
        node: NodeId,
        /// Id of the node that comes.
        by: NodeId,
        /// Its base URL.
        address: String,
    },
    /// These nodes are a new group, which they name.
    AddGroup(Vec<Seat>),
    /// No node of this group has shards any more.
    RemoveGroup(GroupId),
    /// Each group keeps so many copies of a shard.
    ReplicationFactor(u32),
}

/// Why there is no such layout. Each text names the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A node that is to go is not in the layout.
    #[error("node `{0}` has no shards: `GET /_miroir/topology` lists the nodes there are")]
    UnknownNode(NodeId),
    /// A node that is to come is in the layout.
    #[error("node `{0}` has shards already: give the new node an id of its own")]
    KnownNode(NodeId),
    /// A node that is to come is at the address of another.
    #[error("address `{address}` is node `{node}`'s: every node needs an address of its own")]
    KnownAddress {
        /// The address.
        address: String,
        /// Whose it is.
        node: NodeId,
    },
    /// There is no such group.
    #[error("there is no replica group {0}: add one with `POST /_miroir/groups`")]
    UnknownGroup(GroupId),
    /// There is such a group.
    #[error("replica group {0} is there already: add nodes to it with `POST /_miroir/nodes`")]
    KnownGroup(GroupId),
    /// Nodes of one new group name several.
    #[error("all nodes of a new group name the same `replica_group`")]
    SeveralGroups,
    /// Too few nodes would be left.
    #[error(
        "replica group {group} would have {nodes} node(s) for {replication_factor} copies of each \
         shard: add nodes first, or lower the replication factor"
    )]
    TooSmall {
        /// The group.
        group: GroupId,
        /// Nodes that it would have.
        nodes: usize,
        /// Nodes that it needs.
        replication_factor: u32,
    },
    /// The last group would go.
    #[error("replica group {0} is the last one: documents would be nowhere")]
    LastGroup(GroupId),
    /// A factor of 0.
    #[error("a replication factor is at least 1")]
    NoReplicas,
    /// Nothing would change.
    #[error("that is how it is already")]
    Nothing,
}

impl Layout {
    /// The layout that does what is wanted.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn after(&self, wish: &Wish) -> Result<Self, Refused> {
        let mut next = self.clone();
        match wish {
            Wish::Join(seats) => next.seat(seats, true)?,
            Wish::Drain(nodes) => next.unseat(nodes)?,
            Wish::Replace { node, by, address } => {
                let old = next.nodes.iter().find(|seat| seat.id == *node);
                let group = old.ok_or_else(|| Refused::UnknownNode(node.clone()))?.group;
                let by = Seat { id: by.clone(), group, address: address.clone() };
                next.seat(std::slice::from_ref(&by), true)?;
                next.unseat(std::slice::from_ref(node))?;
            }
            Wish::AddGroup(seats) => {
                if seats.windows(2).any(|pair| pair[0].group != pair[1].group) {
                    return Err(Refused::SeveralGroups);
                }
                next.seat(seats, false)?;
            }
            Wish::RemoveGroup(group) => {
                if !next.nodes.iter().any(|seat| seat.group == *group) {
                    return Err(Refused::UnknownGroup(*group));
                }
                next.nodes.retain(|seat| seat.group != *group);
                if next.nodes.is_empty() {
                    return Err(Refused::LastGroup(*group));
                }
            }
            Wish::ReplicationFactor(0) => return Err(Refused::NoReplicas),
            Wish::ReplicationFactor(copies) => next.replication_factor = *copies,
        }
        next.nodes.sort_by(|a, b| (a.group, &a.id).cmp(&(b.group, &b.id)));
        if next == *self {
            return Err(Refused::Nothing);
        }
        let seats = next.seats();
        let replication_factor = next.replication_factor;
        let mut groups: Vec<GroupId> = self.nodes.iter().map(|seat| seat.group).collect();
        groups.extend(seats.groups.keys());
        let goes = |group: &GroupId| matches!(wish, Wish::RemoveGroup(gone) if gone == group);
        for group in groups.into_iter().filter(|group| !goes(group)) {
            let nodes = seats.groups.get(&group).map_or(0, Vec::len);
            if nodes < replication_factor as usize {
                return Err(Refused::TooSmall { group, nodes, replication_factor });
            }
        }
        Ok(next)
    }

    fn seat(&mut self, seats: &[Seat], known: bool) -> Result<(), Refused> {
        let before = self.clone();
        for seat in seats {
            if self.nodes.iter().any(|own| own.id == seat.id) {
                return Err(Refused::KnownNode(seat.id.clone()));
            }
            let same = |own: &&Seat| address_key(&own.address) == address_key(&seat.address);
            if let Some(own) = self.nodes.iter().find(same) {
                let (address, node) = (seat.address.clone(), own.id.clone());
                return Err(Refused::KnownAddress { address, node });
            }
            match (before.nodes.iter().any(|own| own.group == seat.group), known) {
                (false, true) => return Err(Refused::UnknownGroup(seat.group)),
                (true, false) => return Err(Refused::KnownGroup(seat.group)),
                _ => self.nodes.push(seat.clone()),
            }
        }
        Ok(())
    }

    fn unseat(&mut self, nodes: &[NodeId]) -> Result<(), Refused> {
        for node in nodes {
            let at = self.nodes.iter().position(|seat| seat.id == *node);
            self.nodes.remove(at.ok_or_else(|| Refused::UnknownNode(node.clone()))?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seat(id: &str, group: u32) -> Seat {
        let (id, address) = (NodeId::new(id).unwrap(), format!("http://{id}:7700"));
        Seat { id, group: GroupId(group), address }
    }

    fn layout(replication_factor: u32, nodes: &[(&str, u32)]) -> Layout {
        let nodes = nodes.iter().map(|(id, group)| seat(id, *group)).collect();
        Layout { replication_factor, nodes }
    }

    #[test]
    fn each_wish_has_its_layout() {
        let id = |id: &str| NodeId::new(id).unwrap();
        let three = layout(2, &[("a", 0), ("b", 0), ("c", 0)]);
        let cases = [
            (Wish::Join(vec![seat("d", 0)]), layout(2, &[("a", 0), ("b", 0), ("c", 0), ("d", 0)])),
            (Wish::Drain(vec![id("b")]), layout(2, &[("a", 0), ("c", 0)])),
            (
                Wish::Replace { node: id("a"), by: id("d"), address: seat("d", 0).address },
                layout(2, &[("b", 0), ("c", 0), ("d", 0)]),
            ),
            (
                Wish::AddGroup(vec![seat("d", 1), seat("e", 1)]),
                layout(2, &[("a", 0), ("b", 0), ("c", 0), ("d", 1), ("e", 1)]),
            ),
            (Wish::ReplicationFactor(3), layout(3, &[("a", 0), ("b", 0), ("c", 0)])),
        ];
        for (wish, expected) in cases {
            assert_eq!(three.after(&wish), Ok(expected), "{wish:?}");
        }
        let two = layout(1, &[("a", 0), ("b", 1)]);
        assert_eq!(two.after(&Wish::RemoveGroup(GroupId(0))), Ok(layout(1, &[("b", 1)])));
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_remedy() {
        let id = |id: &str| NodeId::new(id).unwrap();
        let two = layout(2, &[("a", 0), ("b", 0)]);
        let taken = Seat { address: "HTTP://A:7700/".to_owned(), ..seat("d", 0) };
        let cases = [
            (Wish::Join(vec![seat("a", 0)]), "`a` has shards already"),
            (Wish::Join(vec![taken]), "is node `a`'s"),
            (Wish::Join(vec![seat("d", 3)]), "no replica group 3"),
            (Wish::Join(Vec::new()), "how it is already"),
            (Wish::Drain(vec![id("x")]), "`x` has no shards"),
            (Wish::Drain(vec![id("a")]), "would have 1 node(s) for 2 copies"),
            (Wish::Drain(vec![id("a"), id("b")]), "would have 0 node(s) for 2 copies"),
            (Wish::AddGroup(vec![seat("d", 0)]), "group 0 is there already"),
            (Wish::AddGroup(vec![seat("d", 1), seat("e", 2)]), "the same `replica_group`"),
            (Wish::AddGroup(vec![seat("d", 1)]), "group 1 would have 1 node(s)"),
            (Wish::RemoveGroup(GroupId(4)), "no replica group 4"),
            (Wish::RemoveGroup(GroupId(0)), "is the last one"),
            (Wish::ReplicationFactor(0), "at least 1"),
            (Wish::ReplicationFactor(2), "how it is already"),
            (Wish::ReplicationFactor(3), "would have 2 node(s) for 3 copies"),
        ];
        for (wish, says) in cases {
            let refused = two.after(&wish).unwrap_err().to_string();
            assert!(refused.contains(says), "{wish:?}: {refused}");
        }
    }
}
