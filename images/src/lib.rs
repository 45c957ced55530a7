//! Debian archives, packages and images: fetched, verified, unpacked and written.
