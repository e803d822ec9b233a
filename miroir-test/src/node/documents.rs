//! Documents of an index in the order in which a node lists them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A document.
pub type Document = Map<String, Value>;

/// Documents by id, each with the number that a node gives it when it first comes: the lowest that no
/// other document has, so that holes of deleted ones are filled first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Documents {
    numbers: BTreeMap<String, u32>,
    listed: BTreeMap<u32, (String, Document)>,
}

impl Documents {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.listed.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// Whether there is one with this id.
    pub fn contains_key(&self, id: &str) -> bool {
        self.numbers.contains_key(id)
    }

    /// The document with this id.
    pub fn get(&self, id: &str) -> Option<&Document> {
        self.listed.get(self.numbers.get(id)?).map(|(_, document)| document)
    }

    /// The document with this id, to be changed.
    pub fn get_mut(&mut self, id: &str) -> Option<&mut Document> {
        self.listed.get_mut(self.numbers.get(id)?).map(|(_, document)| document)
    }

    /// Puts a document in, in the place of the one with this id if there is one.
    pub fn insert(&mut self, id: String, document: Document) {
        let number = self.numbers.get(&id).copied().unwrap_or_else(|| self.free());
        self.numbers.insert(id.clone(), number);
        self.listed.insert(number, (id, document));
    }

    /// The lowest number that no document has.
    fn free(&self) -> u32 {
        let taken = self.listed.keys().zip(0..).take_while(|(taken, number)| *taken == number);
        taken.count() as u32
    }

    /// Takes a document out.
    pub fn remove(&mut self, id: &str) -> Option<Document> {
        let number = self.numbers.remove(id)?;
        self.listed.remove(&number).map(|(_, document)| document)
    }

    /// Keeps those for which `keep` says so.
    pub fn retain(&mut self, keep: impl Fn(&str, &Document) -> bool) {
        self.listed.retain(|_, (id, document)| keep(id, document));
        let listed = &self.listed;
        self.numbers.retain(|_, number| listed.contains_key(number));
    }

    /// Takes all documents out.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Ids in the node's order.
    pub fn keys(&self) -> impl Iterator<Item = &String> {
        self.listed.values().map(|(id, _)| id)
    }

    /// Documents in the node's order.
    pub fn values(&self) -> impl Iterator<Item = &Document> {
        self.listed.values().map(|(_, document)| document)
    }

    /// Ids and documents in the node's order.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Document)> {
        self.listed.values().map(|(id, document)| (id, document))
    }
}

impl std::ops::Index<&String> for Documents {
    type Output = Document;

    fn index(&self, id: &String) -> &Document {
        self.get(id).expect("a document with this id")
    }
}

impl<'a> IntoIterator for &'a Documents {
    type Item = (&'a String, &'a Document);
    type IntoIter = Box<dyn Iterator<Item = Self::Item> + 'a>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_filled_first_and_replaced_documents_stay() {
        let mut documents = Documents::default();
        for id in ["c", "a", "b"] {
            documents.insert(id.to_owned(), Document::new());
        }
        documents.remove("a");
        documents.insert("c".to_owned(), Document::new());
        documents.insert("z".to_owned(), Document::new());
        documents.insert("y".to_owned(), Document::new());
        let order: Vec<_> = documents.keys().map(String::as_str).collect();
        assert_eq!(order, ["c", "z", "b", "y"]);
        documents.retain(|id, _| id != "c");
        assert!(!documents.contains_key("c") && documents.get("b").is_some());
        assert_eq!(documents.len(), 3);
    }
}
