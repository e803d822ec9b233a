//! Who asks, as one pod tells another.

use std::fmt;

use miroir_pipeline::context::Principal;
use uuid::Uuid;

/// Who asks. Of an API key the uid: whether it still opens anything is found out where it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// The holder of the master key, or anybody where there is none.
    Master,
    /// The operator.
    Admin,
    /// The holder of the API key of this uid.
    Key(Uuid),
}

impl Claim {
    /// What is told of a caller. `None` for one who changes nothing: nobody, and a tenant.
    pub(crate) fn of(principal: &Principal) -> Option<Self> {
        match principal {
            Principal::MasterKey => Some(Self::Master),
            Principal::Admin => Some(Self::Admin),
            Principal::ApiKey(key) => Some(Self::Key(key.uid)),
            _ => None,
        }
    }

    pub(super) fn read(text: &str) -> Option<Self> {
        match text {
            "master" => Some(Self::Master),
            "admin" => Some(Self::Admin),
            _ => text.strip_prefix("key:")?.parse().ok().map(Self::Key),
        }
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Master => f.write_str("master"),
            Self::Admin => f.write_str("admin"),
            Self::Key(uid) => write!(f, "key:{uid}"),
        }
    }
}
