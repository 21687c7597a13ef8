"""Foreign proof of the envelope: jwcrypto opens what we seal, with the key out of our exported PFX, and seals what we
open. It shares no code with the product.

    jwe.py open PFX PASSWORD_FILE ENVELOPE_FILE          prints {"binding": {...}, "secrets": {...}}
    jwe.py seal CERTIFICATE_PEM BINDING_JSON SECRETS_JSON prints the envelope text
    jwe.py pfx CERTIFICATE_COMMON_NAME PASSWORD_FILE OUT [rsa|ec]   writes a PFX with a new key
"""

import base64
import datetime
import json
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from jwcrypto import jwe, jwk


def unpadded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def padded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def thumbprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()


def private_jwk(key) -> jwk.JWK:
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return jwk.JWK.from_pem(key.private_bytes(*form))


def open_envelope(pfx_path: str, password_path: str, envelope_path: str) -> None:
    with open(password_path, "rb") as file:
        password = file.read().strip()
    with open(pfx_path, "rb") as file:
        key, certificate, _ = pkcs12.load_key_and_certificates(file.read(), password)
    with open(envelope_path, encoding="utf-8") as file:
        document = json.loads(padded(file.read().strip()))
    kid = thumbprint(certificate)
    assert kid in [one["header"]["kid"] for one in document["recipients"]], "not sealed to this certificate"
    token = jwe.JWE()
    token.allowed_algs = ["RSA-OAEP-256", "ECDH-ES+A256KW", "A256GCM"]
    document["recipients"] = [one for one in document["recipients"] if one["header"]["kid"] == kid]
    token.deserialize(json.dumps(document))
    token.decrypt(private_jwk(key))
    print(json.dumps({"binding": json.loads(padded(document["aad"])), "secrets": json.loads(token.payload)}))


def seal_envelope(certificate_path: str, binding: str, secrets: str) -> None:
    with open(certificate_path, "rb") as file:
        certificate = x509.load_pem_x509_certificate(file.read())
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    key = jwk.JWK.from_pem(certificate.public_key().public_bytes(*form))
    algorithm = "RSA-OAEP-256" if isinstance(certificate.public_key(), rsa.RSAPublicKey) else "ECDH-ES+A256KW"
    token = jwe.JWE(
        plaintext=secrets.encode(),
        protected=json.dumps({"enc": "A256GCM"}),
        aad=json.dumps(json.loads(binding), sort_keys=True, separators=(",", ":")).encode(),
        algs=["RSA-OAEP-256", "ECDH-ES+A256KW", "A256GCM"],
    )
    header = {"alg": algorithm, "kid": thumbprint(certificate)}
    token.add_recipient(key, header=json.dumps(header))
    document = json.loads(token.serialize())
    if "recipients" not in document:  # One recipient is written in the flattened form; the general one is asked for.
        one = {"header": document.pop("header"), "encrypted_key": document.pop("encrypted_key")}
        document["recipients"] = [one]
    for one in document["recipients"]:
        if "epk" in one["header"]:
            one["header"]["epk"] = {name: one["header"]["epk"][name] for name in ("kty", "crv", "x", "y")}
    print(unpadded(json.dumps(document).encode()))


def make_pfx(name: str, password_path: str, out: str, kind: str = "ec") -> None:
    with open(password_path, "rb") as file:
        password = file.read().strip()
    key = rsa.generate_private_key(65537, 2048) if kind == "rsa" else ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=30))
        .sign(key, hashes.SHA256())
    )
    encryption = serialization.BestAvailableEncryption(password)
    with open(out, "wb") as file:
        file.write(pkcs12.serialize_key_and_certificates(name.encode(), key, certificate, None, encryption))


if __name__ == "__main__":
    {"open": open_envelope, "seal": seal_envelope, "pfx": make_pfx}[sys.argv[1]](*sys.argv[2:])
