"""Errors in words: what happened, what was asked and found, what to do next."""

from circuit_client.verbs.models import embedding
from circuit_protocol.errors import InvalidRequest, NotFound
from circuit_tui.saying import explained, said


def test_an_error_is_said_with_what_was_asked_and_found_and_the_next_step():
    error = NotFound("no such model", asked="a", found="b, c", hint="Load one", nearest=("b",))
    assert said(error) == ["No such model.", "asked: a", "found: b, c", "nearest: b", "Load one."]


def test_a_request_that_an_older_daemon_does_not_know_names_the_versions_as_the_cause():
    call = embedding(3)
    unknown = InvalidRequest("no request type has this name", asked="models.embedding")
    text = " ".join(said(explained(unknown, call)))
    assert "another version" in text
    assert "Install the same version at both ends" in text
    other = InvalidRequest("the channel is too large", asked="models.embedding")
    assert explained(other, call) is other
