//! Where a request says which tenant it is of.

use std::sync::Arc;

use http::{HeaderMap, HeaderName};

use miroir_pipeline::codec::HeaderCodec;
use miroir_pipeline::context::Principal;
use miroir_pipeline::keyring::Keyring;
use miroir_pipeline::{Context, Error};

use super::NamedTenant;
use super::directory::{MAX_NAME, TenantDirectory, is_name};

/// Where the name of a tenant comes from.
#[derive(Clone, Debug)]
pub enum TenantSource {
    /// A header of the request.
    Header(HeaderName),
    /// The key the request is made with.
    ApiKey {
        /// Which tenants keys are of.
        directory: Arc<TenantDirectory>,
        /// The keys.
        keyring: Arc<Keyring>,
    },
}

impl TenantSource {
    /// The tenant of a request. An empty header is none.
    ///
    /// # Errors
    /// `invalid_header_value` for a header that is no name.
    pub fn of(
        &self,
        headers: &HeaderMap,
        principal: &Principal,
    ) -> Result<Option<NamedTenant>, Error> {
        match self {
            Self::ApiKey { directory, keyring } => Ok(directory.of(principal, keyring)),
            Self::Header(header) => {
                let mut values = headers.get_all(header).iter().filter(|value| !value.is_empty());
                let Some(value) = values.next() else { return Ok(None) };
                let name = value.to_str().ok().filter(|text| is_name(text));
                match (name, values.next()) {
                    (Some(name), None) => {
                        Ok(Some(NamedTenant { name: Arc::from(name), listed: false, group: None }))
                    }
                    _ => Err(Error::api(
                        "invalid_header_value",
                        format!(
                            "Header `{header}` must name one tenant, with 1 to {MAX_NAME} visible \
                             ASCII characters."
                        ),
                    )),
                }
            }
        }
    }
}

impl HeaderCodec for TenantSource {
    fn decode(&self, headers: &HeaderMap, cx: &mut Context) -> Result<(), Error> {
        if let Some(tenant) = self.of(headers, &cx.principal)? {
            cx.insert(tenant);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn header(values: &[&'static str]) -> Result<Option<NamedTenant>, Error> {
        let name = HeaderName::from_static("x-miroir-tenant");
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&name, HeaderValue::from_static(value));
        }
        TenantSource::Header(name).of(&headers, &Principal::MasterKey)
    }

    #[test]
    fn a_header_names_one_tenant() {
        assert_eq!(&*header(&["acme"]).unwrap().unwrap().name, "acme");
        assert_eq!(header(&[]).unwrap(), None);
        assert_eq!(header(&[""]).unwrap(), None);
        for wrong in [&["two words"][..], &["a", "b"]] {
            let (status, body) = header(wrong).unwrap_err().render();
            assert_eq!(status, 400);
            let body = String::from_utf8(body.unwrap().to_vec()).unwrap();
            assert!(body.contains("invalid_header_value") && body.contains("x-miroir-tenant"));
        }
    }
}
