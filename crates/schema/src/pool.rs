//! Many files as one pool.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use prost_reflect::DescriptorPool;
use prost_types::FileDescriptorProto;

use crate::{Error, Schema, file::File};

/// Of imports: a second or so.
const MOST_STEPS: usize = 5_000_000;

impl Schema {
    /// Of files, of which `own` are those that were asked for.
    ///
    /// What Google defines is taken from here: nobody else has a say in it, and a file that
    /// does not come with it is whole all the same. An import that is missing is no error
    /// as long as nothing uses what would be in it.
    pub(crate) fn of(files: Vec<File>, own: Vec<String>) -> Result<Self, Error> {
        let mut pool = DescriptorPool::global();
        let google: Vec<_> = pool.files().map(|file| file.name().to_owned()).collect();
        let mut protos: BTreeMap<String, FileDescriptorProto> = BTreeMap::new();
        let mut comments = HashMap::new();
        for File { mut proto, comments: its } in files {
            let name = proto.name().to_owned();
            if google.contains(&name) {
                continue;
            }
            if proto.package() == "google.protobuf" {
                let is_new =
                    |name: &str| pool.get_message_by_name(&format!("google.protobuf.{name}")).is_none();
                proto.message_type.retain(|message| is_new(message.name()));
                let is_new = |name: &str| pool.get_enum_by_name(&format!("google.protobuf.{name}")).is_none();
                proto.enum_type.retain(|one| is_new(one.name()));
            }
            comments.extend(its.map(|comments| (name.clone(), comments)));
            protos.insert(name, proto);
        }
        let (imports, missing) = imports(&protos);
        for (name, proto) in &mut protos {
            proto.public_dependency.clear();
            proto.weak_dependency.clear();
            let found = imports.get(name).into_iter().flatten().filter(|name| !google.contains(name));
            proto.dependency = google.iter().chain(found).cloned().collect();
        }
        // prost-reflect looks at the imports of each import, by name.
        let steps = |name: &String| imports.get(name).map_or(0, BTreeSet::len) + google.len();
        let looked_at = imports.values().flatten().map(steps).sum::<usize>();
        if looked_at > MOST_STEPS {
            return Err(Error::Unfit(format!("{} files import each other too often", imports.len())));
        }
        let added = pool.add_file_descriptor_protos(protos.into_values());
        added.map_err(|error| {
            Error::Unfit(std::iter::once(error.to_string()).chain(missing).collect::<Vec<_>>().join("; "))
        })?;
        Ok(Self { pool, comments, own })
    }
}

/// By the name of a file, all that it can see: what it imports, and what that imports
/// for all. With them, in words, the imports that are not there.
fn imports(
    protos: &BTreeMap<String, FileDescriptorProto>,
) -> (HashMap<String, BTreeSet<String>>, Vec<String>) {
    let mut seen_by = HashMap::new();
    let mut missing = Vec::new();
    for (name, proto) in protos {
        let mut seen = BTreeSet::new();
        let mut visited = HashSet::from([name.as_str()]);
        let mut next: Vec<&str> = proto.dependency.iter().map(String::as_str).collect();
        while let Some(import) = next.pop() {
            if !visited.insert(import) {
                continue;
            }
            let Some(imported) = protos.get(import) else { continue };
            seen.insert(import.to_owned());
            let public = imported.public_dependency.iter().filter_map(|index| usize::try_from(*index).ok());
            next.extend(public.filter_map(|index| imported.dependency.get(index)).map(String::as_str));
        }
        let is_missing =
            |import: &&String| !protos.contains_key(*import) && !import.starts_with("google/protobuf/");
        let its = proto.dependency.iter().filter(is_missing);
        missing.extend(its.map(|import| format!("{name} imports {import}, which is missing")));
        seen_by.insert(name.clone(), seen);
    }
    (seen_by, missing)
}
