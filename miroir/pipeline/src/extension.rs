//! What a capability leaves in a [`Context`](crate::Context), a [`Meta`](crate::meta::Meta) or an
//! [`Error`](crate::Error), found again by its type.
//!
//! The pipeline names no capability: the name of a session, a tenant or the rest of a rate limit
//! travels as a value whose type belongs to whoever reads and writes it. First-party layers have no
//! other seats than a stranger's.
//!
//! ```
//! use miroir_pipeline::Context;
//! use miroir_pipeline::extension::{AnswerKey, Extension};
//! use std::time::Duration;
//!
//! /// The language that a client wants its answer in.
//! #[derive(Debug, PartialEq)]
//! struct Language(&'static str);
//!
//! impl Extension for Language {
//!     // Two searches in two languages have two answers: they must not share one.
//!     fn answer_key(&self) -> AnswerKey {
//!         AnswerKey::Part(format!("language:{}", self.0).into_bytes())
//!     }
//! }
//!
//! let mut cx = Context::client("a", Duration::from_secs(1));
//! cx.insert(Language("fr"));
//! assert_eq!(cx.get(), Some(&Language("fr")));
//! assert_eq!(cx.extensions().answer_parts().unwrap(), [b"language:fr".to_vec()]);
//! ```

use std::any::{Any, TypeId};
use std::fmt;
use std::sync::Arc;

/// A value that travels with a request or an answer.
pub trait Extension: Any + fmt::Debug + Send + Sync {
    /// What the answer to a request depends on, of this. Nothing by default.
    ///
    /// `query_coalescing` shares an answer among requests whose parts are equal, and `idempotency`
    /// takes a request with other parts for another request.
    fn answer_key(&self) -> AnswerKey {
        AnswerKey::Irrelevant
    }

    /// Whether it says of one answer what then holds for all that is put together of that answer and
    /// others, such as the answer to a multi-search. False by default.
    fn holds_for_whole(&self) -> bool {
        false
    }
}

/// What the answer to a request depends on, of one [`Extension`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AnswerKey {
    /// The answer is the same without it.
    Irrelevant,
    /// Requests with other bytes have other answers. The bytes begin with a name that nobody else
    /// uses, such as that of a header, and are the same in every version: they are stored.
    Part(Vec<u8>),
    /// The answer is for this one request.
    Unshared,
}

#[derive(Clone, Debug)]
struct Entry {
    of: TypeId,
    value: Arc<dyn Extension>,
}

/// Values of different types, at most one of each. Cheap to clone: clones share the values.
#[derive(Clone, Default)]
pub struct Extensions {
    /// `None` while there are none, which is the common case. In the order of the first insertion.
    entries: Option<Arc<Vec<Entry>>>,
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.entries().iter().map(|entry| &entry.value)).finish()
    }
}

impl Extensions {
    fn entries(&self) -> &[Entry] {
        self.entries.as_ref().map_or(&[], |entries| entries)
    }

    fn entries_mut(&mut self) -> &mut Vec<Entry> {
        Arc::make_mut(self.entries.get_or_insert_default())
    }

    fn find(&self, of: TypeId) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.of == of)
    }

    fn put(&mut self, new: Entry) {
        let entries = self.entries_mut();
        match entries.iter_mut().find(|entry| entry.of == new.of) {
            Some(entry) => *entry = new,
            None => entries.push(new),
        }
    }

    /// The value of this type, if there is one.
    pub fn get<T: Extension>(&self) -> Option<&T> {
        let value: &dyn Any = &*self.find(TypeId::of::<T>())?.value;
        value.downcast_ref()
    }

    /// As [`Extensions::get`], to keep.
    pub fn share<T: Extension>(&self) -> Option<Arc<T>> {
        let value: Arc<dyn Any + Send + Sync> =
            Arc::clone(&self.find(TypeId::of::<T>())?.value) as _;
        value.downcast().ok()
    }

    /// Whether there is a value of this type.
    pub fn has<T: Extension>(&self) -> bool {
        self.find(TypeId::of::<T>()).is_some()
    }

    /// Adds a value, in place of the one of its type if there is one. Copies that were made before
    /// do not see it.
    pub fn insert<T: Extension>(&mut self, value: T) {
        self.put(Entry { of: TypeId::of::<T>(), value: Arc::new(value) });
    }

    /// Removes the value of this type, if there is one.
    pub fn remove<T: Extension>(&mut self) {
        if self.has::<T>() {
            self.entries_mut().retain(|entry| entry.of != TypeId::of::<T>());
        }
    }

    /// Adds what [holds for the whole](Extension::holds_for_whole) of an answer that these belong to
    /// a part of.
    pub fn join(&mut self, part: &Self) {
        for entry in part.entries().iter().filter(|entry| entry.value.holds_for_whole()) {
            if self.find(entry.of).is_none() {
                self.put(entry.clone());
            }
        }
    }

    /// What the answer depends on, in an order that does not depend on who inserted first; `None`
    /// where the answer must not be shared at all.
    pub fn answer_parts(&self) -> Option<Vec<Vec<u8>>> {
        let mut parts = Vec::new();
        for entry in self.entries() {
            match entry.value.answer_key() {
                AnswerKey::Irrelevant => {}
                AnswerKey::Part(part) => parts.push(part),
                AnswerKey::Unshared => return None,
            }
        }
        parts.sort_unstable();
        Some(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Tag(u8);

    impl Extension for Tag {
        fn answer_key(&self) -> AnswerKey {
            AnswerKey::Part(vec![b't', self.0])
        }
    }

    #[derive(Debug, PartialEq)]
    struct Late;

    impl Extension for Late {
        fn holds_for_whole(&self) -> bool {
            true
        }
    }

    #[derive(Debug)]
    struct Mine;

    impl Extension for Mine {
        fn answer_key(&self) -> AnswerKey {
            AnswerKey::Unshared
        }
    }

    #[test]
    fn a_value_is_found_by_its_type_and_replaced_by_another_of_it() {
        let mut all = Extensions::default();
        assert!(!all.has::<Tag>() && all.share::<Tag>().is_none());
        all.insert(Tag(1));
        let before = all.clone();
        all.insert(Late);
        all.insert(Tag(2));
        assert_eq!((all.get(), all.share().as_deref()), (Some(&Tag(2)), Some(&Tag(2))));
        assert_eq!((before.get(), before.get::<Late>()), (Some(&Tag(1)), None));
        assert_eq!(format!("{all:?}"), "[Tag(2), Late]");
        all.remove::<Tag>();
        assert!(!all.has::<Tag>() && all.has::<Late>());
    }

    #[test]
    fn answers_are_shared_where_the_parts_are_equal() {
        #[derive(Debug)]
        struct Name;
        impl Extension for Name {
            fn answer_key(&self) -> AnswerKey {
                AnswerKey::Part(b"name".to_vec())
            }
        }
        let (mut one, mut other) = (Extensions::default(), Extensions::default());
        assert_eq!(one.answer_parts(), Some(Vec::new()));
        one.insert(Tag(1));
        one.insert(Name);
        other.insert(Name);
        other.insert(Late);
        other.insert(Tag(1));
        assert_eq!(one.answer_parts(), other.answer_parts());
        other.insert(Tag(2));
        assert_ne!(one.answer_parts(), other.answer_parts());
        other.insert(Mine);
        assert_eq!(other.answer_parts(), None);
    }

    #[test]
    fn the_whole_is_told_what_holds_for_it() {
        let (mut whole, mut part) = (Extensions::default(), Extensions::default());
        part.insert(Tag(1));
        part.insert(Late);
        whole.join(&part);
        assert!(whole.has::<Late>() && !whole.has::<Tag>());
    }
}
