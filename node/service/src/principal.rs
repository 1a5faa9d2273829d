//! Who calls. Every handler receives one; today everybody is anonymous and may do everything.

/// The caller of a request, put into its extensions where it leaves its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    Anonymous,
}

impl Principal {
    /// The caller of a request.
    pub fn of(extensions: &http::Extensions) -> &Principal {
        extensions.get().unwrap_or(&Principal::Anonymous)
    }
}
