"""What `cargo xtask fuzz api` asks of every answer; loaded by schemathesis."""

import schemathesis

# Refusals on purpose: docs/api-compatibility.md says of which routes, and why.
REFUSED = {(501, "miroir_not_supported")}


@schemathesis.check
def no_fault(ctx, response, case):
    """No answer says that the server is at fault, and every refusal has Meilisearch's shape."""
    if response.status_code < 400 or case.method.upper() == "HEAD":
        return
    try:
        error = response.json()
        code = error["code"]
        assert error["message"] and error["type"] and error["link"]
    except (ValueError, KeyError, TypeError):
        # One node answers these with a status alone.
        assert response.status_code in (400, 404, 405), (
            f"{response.status_code} without an error: {response.text!r}"
        )
        return
    if response.status_code >= 500:
        assert (response.status_code, code) in REFUSED, f"{response.status_code} {code}"
