# OpenSSL's library, called directly: fixed work whose results are checked, without the clock of `openssl speed`.
import ctypes
import hashlib
import sys

lib = ctypes.CDLL("libcrypto.so.3")
P, I, Z = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
for name in ("EVP_MD_CTX_new", "EVP_CIPHER_CTX_new", "EVP_aes_256_gcm", "EVP_sha256", "EVP_PKEY_Q_keygen"):
    getattr(lib, name).restype = P


def check(value):
    if value != 1:
        raise SystemExit("libcrypto failed")


def aes_gcm():
    context, buffer = P(lib.EVP_CIPHER_CTX_new()), ctypes.create_string_buffer(bytes(range(256)) * 1024)
    size, tag = I(), ctypes.create_string_buffer(16)
    check(lib.EVP_EncryptInit_ex(context, P(lib.EVP_aes_256_gcm()), None, b"k" * 32, b"n" * 12))
    for _ in range(80):
        check(lib.EVP_EncryptUpdate(context, buffer, ctypes.byref(size), buffer, I(256 * 1024)))
    check(lib.EVP_EncryptFinal_ex(context, buffer, ctypes.byref(size)))
    check(lib.EVP_CIPHER_CTX_ctrl(context, 0x10, 16, tag))
    return tag.raw.hex()


def sha256():
    data, digest = b"\x5a" * (1 << 20), hashlib.sha256()
    for _ in range(90):
        digest.update(data)
    return digest.hexdigest()


def signatures(key, count):
    message, signature = b"message", ctypes.create_string_buffer(512)
    for i in range(count):
        size, data = Z(512), b"%d" % i + message
        context = P(lib.EVP_MD_CTX_new())
        check(lib.EVP_DigestSignInit(context, None, P(lib.EVP_sha256()), None, key))
        check(lib.EVP_DigestSign(context, signature, ctypes.byref(size), data, Z(len(data))))
        lib.EVP_MD_CTX_free(context)
        context = P(lib.EVP_MD_CTX_new())
        check(lib.EVP_DigestVerifyInit(context, None, P(lib.EVP_sha256()), None, key))
        check(lib.EVP_DigestVerify(context, signature, size, data, Z(len(data))))
        lib.EVP_MD_CTX_free(context)
    return "%d signatures verified" % count


def rsa():
    # The time to find a key is chance: run.sh has made one before.
    with open("/tmp/rsa.der", "rb") as f:
        der = f.read()
    pointer, key = ctypes.c_char_p(der), P()
    lib.d2i_AutoPrivateKey.restype = P
    key = P(lib.d2i_AutoPrivateKey(None, ctypes.byref(pointer), ctypes.c_long(len(der))))
    return signatures(key, 120)


def ecdsa():
    return signatures(P(lib.EVP_PKEY_Q_keygen(None, None, b"EC", b"P-256")), 900)


print(globals()[sys.argv[1]]())
