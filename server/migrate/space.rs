//! Room for what is to be written, added up where places share it.

/// What one place must have room for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Need {
    pub place: String,
    /// The file system that it is on, if it tells.
    pub device: Option<u64>,
    pub free: Option<u64>,
    pub needed: u64,
}

/// Places on one file system share its room, so they are one.
pub(super) fn added_up(needs: Vec<Need>) -> Vec<Need> {
    let mut sums: Vec<Need> = Vec::new();
    for need in needs {
        let shared = |sum: &&mut Need| sum.device.is_some() && sum.device == need.device;
        match sums.iter_mut().find(shared) {
            Some(sum) => {
                sum.place = format!("{} (with {})", sum.place, need.place);
                sum.free = sum.free.min(need.free);
                sum.needed = sum.needed.saturating_add(need.needed);
            }
            None => sums.push(need),
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(place: &str, device: Option<u64>, needed: u64) -> Need {
        Need {
            place: place.to_owned(),
            device,
            free: Some(10),
            needed,
        }
    }

    #[test]
    fn places_on_one_file_system_need_room_together() {
        let together = added_up(vec![need("a", Some(1), 6), need("b", Some(1), 7)]);
        assert_eq!(together, [need("a (with b)", Some(1), 13)]);
        for other in [Some(2), None] {
            let apart = || vec![need("a", None, 6), need("b", other, 7)];
            assert_eq!(added_up(apart()), apart());
        }
    }
}
