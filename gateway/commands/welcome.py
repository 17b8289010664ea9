"""The welcome sheet: what is sent to a new person as it is, in English or Chinese. No secret stands in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from config.loading import Installation
from config.roles import role_state
from gateway.catalog import Person
from gateway.catalog.factors import Combination, combinations
from gateway.commands.logins import role_combinations
from gateway.keys.hostkeys import host_keys
from gateway.keys.keyring import Keyring

Language = Literal["en", "zh"]
VERIFY = "ssh-keygen -Y verify -f allowed_signers -I receipts -n receipt@nightsafe -s RECEIPT.json.sig < RECEIPT.json"


@dataclass(frozen=True)
class Words:
    """One language. `folders` are by role."""

    title: str
    host: str
    port: str
    login: str
    host_key: str
    key: str
    factors: str
    compare: str
    folders_title: str
    folders: dict[str, tuple[str, ...]]
    try_sftp: str
    first: str
    try_winscp: str
    winscp: tuple[str, ...]
    receipts: str
    save: str
    then: str
    names: dict[str, str]
    either: str
    unknown_host: str


EN = Words(
    title="Your login to our file exchange",
    host="server",
    port="port",
    login="login",
    host_key="host key",
    key="your key",
    factors="you show",
    compare="At the first login your program shows the server's fingerprint. Go on only if it is the one above.",
    folders_title="Folders",
    folders={
        "client": ("/inbox     put papers for us here", "/outbox    papers for you", "/receipts  a signed receipt for each paper that arrived"),
        "staff": ("/CLIENT/inbox     what the client sent", "/CLIENT/outbox    put papers for the client here", "/CLIENT/receipts  receipts"),
        "auditor": ("/clients/CLIENT/receipts  receipts of each client", "/evidence                  evidence of the drills"),
    },
    try_sftp="Try it with sftp (Linux, macOS, Windows 10 and newer)",
    first="put letter.pdf inbox/",
    try_winscp="Try it with WinSCP",
    winscp=(
        "New site: protocol SFTP; server, port and login as above.",
        "With a key: Advanced, SSH, Authentication, private key file. WinSCP turns your key into its own form.",
        "Compare the fingerprint, log in, and drag a file into inbox.",
    ),
    receipts="Check a receipt",
    save="Save this line as allowed_signers:",
    then="Then, with a receipt and its signature from /receipts:",
    names={"publickey": "your key", "password": "your password", "totp": "the code of your app"},
    either=" or ",
    unknown_host="ask us for the name",
)
ZH = Words(
    title="您的文件交换登录信息",
    host="服务器",
    port="端口",
    login="用户名",
    host_key="主机密钥",
    key="您的密钥",
    factors="登录方式",
    compare="首次登录时，程序会显示服务器指纹。只有与上面完全一致时才继续。",
    folders_title="文件夹",
    folders={
        "client": ("/inbox     请把给我们的文件放在这里", "/outbox    给您的文件", "/receipts  每份收到的文件都有一份签名回执"),
        "staff": ("/CLIENT/inbox     客户发来的文件", "/CLIENT/outbox    请把给客户的文件放在这里", "/CLIENT/receipts  回执"),
        "auditor": ("/clients/CLIENT/receipts  各客户的回执", "/evidence                  恢复演练的证据"),
    },
    try_sftp="用 sftp 试一试（Linux、macOS、Windows 10 及更新版本）",
    first="put letter.pdf inbox/",
    try_winscp="用 WinSCP 试一试",
    winscp=(
        "新建站点：协议选 SFTP，服务器、端口、用户名如上。",
        "使用密钥时：高级、SSH、验证、私钥文件。WinSCP 会把密钥转换成它自己的格式。",
        "核对指纹，登录，然后把文件拖进 inbox。",
    ),
    receipts="验证回执",
    save="把下面这一行保存为 allowed_signers：",
    then="然后，用 /receipts 中的回执和签名：",
    names={"publickey": "密钥", "password": "密码", "totp": "验证器中的动态码"},
    either="，或 ",
    unknown_host="请向我们询问",
)
_WORDS: dict[str, Words] = {"en": EN, "zh": ZH}


def welcome_sheet(installation: Installation, person: Person, language: Language = "en") -> list[str]:
    """The sheet for `person`, line by line."""
    words, gateway = _WORDS[language], installation.settings.gateway
    keyring = Keyring(installation.folder)
    host = gateway.public_host or words.unknown_host
    port = gateway.public_port or (role_state(installation.folder, "gateway") or {}).get("port", gateway.port)
    facts = [(words.host, host), (words.port, str(port)), (words.login, person.name)]
    facts += [(words.host_key, f"{key.fingerprint} ({key.kind})") for key in host_keys(keyring)]
    facts += [(words.key, key.fingerprint) for key in person.keys]
    wanted = combinations(person.require, role_combinations(gateway, person.role), totp=person.totp)
    facts.append((words.factors, words.either.join(_shown(one, words) for one in wanted if _has(person, one))))
    return [
        words.title,
        "",
        *(f"  {name}: {value}" for name, value in facts if value),
        "",
        words.compare,
        "",
        words.folders_title,
        *(f"  {line}" for line in words.folders[person.role]),
        "",
        words.try_sftp,
        f"  sftp -P {port} {person.name}@{gateway.public_host or 'SERVER'}",
        *([f"  {words.first}"] if person.role == "client" else ["  ls"]),
        "",
        words.try_winscp,
        *(f"  {line}" for line in words.winscp),
        "",
        words.receipts,
        f"  {words.save}",
        f"    {keyring.allowed_signers.read_text(encoding='ascii').splitlines()[0]}",
        f"  {words.then}",
        f"    {VERIFY}",
    ]


def _shown(combination: Combination, words: Words) -> str:
    return " + ".join(words.names[factor] for factor in ("publickey", "password", "totp") if factor in combination)


def _has(person: Person, combination: Combination) -> bool:
    return ("password" not in combination or person.password_hash is not None) and ("totp" not in combination or person.totp)
