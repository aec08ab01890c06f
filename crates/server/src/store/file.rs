//! The file that redb works on.

use std::path::Path;

use redb::{Builder, Database, DatabaseError};

#[cfg(not(feature = "simulation"))]
pub(super) fn create(builder: &Builder, path: &Path) -> Result<Database, DatabaseError> {
    builder.create(path)
}

#[cfg(not(feature = "simulation"))]
pub(super) fn open(builder: &Builder, path: &Path) -> Result<Database, DatabaseError> {
    builder.open(path)
}

#[cfg(feature = "simulation")]
pub(super) fn create(builder: &Builder, path: &Path) -> Result<Database, DatabaseError> {
    simulated::open(builder, path, true)
}

#[cfg(feature = "simulation")]
pub(super) fn open(builder: &Builder, path: &Path) -> Result<Database, DatabaseError> {
    simulated::open(builder, path, false)
}

/// On the disk of a simulated platform.
#[cfg(feature = "simulation")]
mod simulated {
    use std::{io, path::Path};

    use domain::platform::File;
    use redb::{Builder, Database, DatabaseError, StorageBackend};

    pub(super) fn open(builder: &Builder, path: &Path, create: bool) -> Result<Database, DatabaseError> {
        let file = File::options().read(true).write(true).create(create).open(path)?;
        builder.create_with_backend(Pages(file))
    }

    #[derive(Debug)]
    struct Pages(File);

    impl StorageBackend for Pages {
        fn len(&self) -> io::Result<u64> {
            Ok(self.0.metadata()?.len())
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.0.read_exact_at(out, offset)
        }

        fn set_len(&self, length: u64) -> io::Result<()> {
            self.0.set_len(length)
        }

        fn sync_data(&self) -> io::Result<()> {
            self.0.sync_data()
        }

        fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
            self.0.write_all_at(bytes, offset)
        }
    }
}
