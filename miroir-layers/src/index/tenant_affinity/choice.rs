//! The decision: a function of its arguments.

use miroir_api::GroupId;
use twox_hash::XxHash64;

use super::{Fallback, Mode, NamedTenant, TenantAffinityOptions};

/// Where a read goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// To this group.
    Group(GroupId),
    /// To any that is not dedicated.
    Anywhere,
    /// Nowhere.
    Nowhere,
}

/// Why the fallback decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The request is of no tenant.
    NoTenant,
    /// The tenant has no group.
    Unknown,
    /// There is no such group.
    NoSuchGroup,
    /// The group lacks a shard; the layer says so.
    GroupDown,
}

impl Reason {
    /// A label for metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoTenant => "no_tenant",
            Self::Unknown => "unknown",
            Self::NoSuchGroup => "no_such_group",
            Self::GroupDown => "group_down",
        }
    }
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Where the read goes.
    pub place: Place,
    /// Whether the group was given to the tenant by name: then it may be a dedicated one.
    pub given: bool,
    /// Why the fallback decided, if it did.
    pub fallback: Option<Reason>,
}

/// One of the groups that are not dedicated, by the XXH64 (seed 0) of the name.
fn by_hash(options: &TenantAffinityOptions, name: &str, groups: &[GroupId]) -> Place {
    let mut open: Vec<GroupId> =
        groups.iter().copied().filter(|group| !options.dedicated_groups.contains(group)).collect();
    open.sort_unstable();
    match open.len() as u64 {
        0 => Place::Anywhere,
        count => Place::Group(open[(XxHash64::oneshot(0, name.as_bytes()) % count) as usize]),
    }
}

/// Where reads of a tenant go, of these groups. Equal arguments give equal choices.
#[must_use]
pub fn choose(
    options: &TenantAffinityOptions,
    tenant: Option<&NamedTenant>,
    groups: &[GroupId],
) -> Choice {
    let given = tenant
        .and_then(|tenant| tenant.group.or_else(|| options.static_map.get(&*tenant.name).copied()));
    if let Some(group) = given.filter(|group| groups.contains(group)) {
        return Choice { place: Place::Group(group), given: true, fallback: None };
    }
    let by_rule = match options.mode {
        Mode::Header => options.fallback == Fallback::Hash,
        Mode::ApiKey => true, // who is here is mapped, to no group in particular
        Mode::Explicit => false,
    };
    let reason = match tenant {
        None => Some(Reason::NoTenant),
        Some(_) if given.is_some() => Some(Reason::NoSuchGroup),
        Some(_) => (!by_rule).then_some(Reason::Unknown),
    };
    let place = match (tenant, options.fallback) {
        (Some(tenant), _) if reason.is_none() => by_hash(options, &tenant.name, groups),
        (Some(tenant), Fallback::Hash) => by_hash(options, &tenant.name, groups),
        (_, Fallback::Reject) => Place::Nowhere,
        _ => Place::Anywhere,
    };
    Choice { place, given: false, fallback: reason }
}
