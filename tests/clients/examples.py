"""Client files with awkward corners, and entries to put into them."""

from __future__ import annotations

from ppctl.clients.base import Entry

PLAIN = Entry("corp", "https://pypi.example.com/simple/", "https://pypi.example.com/")
LOGIN = Entry(
    "corp",
    "https://pypi.example.com/simple/",
    "https://pypi.example.com/",
    user="ci-bot",
    password='p%w:@/ü"\\#x',
    read_login=True,
)
OTHER = Entry("lab-2", "http://127.0.0.1:3141/simple/", "http://127.0.0.1:3141/", user="ann")

PYPIRC = [
    "",
    "\n",
    "# only a comment",
    "[pypi]\nusername = __token__\npassword = pypi-%d%%(x)s\n",
    "[distutils]\nindex-servers = pypi",
    "[distutils]\nindex-servers = pypi testpypi  \n\n[pypi]\nusername=u\n",
    "[distutils]\nindex-servers =\n    pypi\n    # a comment between\n    other\n\n[other]\nrepository: http://o/\n",
    "[distutils]\r\nindex-servers =\r\n\tpypi\r\n\tother\r\n[other]\r\nrepository=http://o/\r\nusername=ü\r\n",
    "[distutils]\nindex-servers=\n    pypi",
    "[distutils]\nindex-servers=\n",
    "[distutils]\n\n[pypi]\nusername = u",
    "[distutils]\n  something = else\n  index-servers = pypi\n   other\n[other]\nrepository = x",
    "[distutils]\n  something = else\n  more = x",
    "[distutils]\nindex-servers = pypi\n   other corp\n[other]\nrepository = x\n",
    "; note\n[server-login]\nusername:old\n[testpypi]\nusername=t\n",
    "[other]\nrepository = http://o/\npassword = multi\n  line\n\n   value\n",
    "[distutils]\nINDEX-SERVERS : pypi\n",
]

PIP = [
    "",
    "[global]",
    "[global]\n",
    "[global]\ntimeout = 60\n",
    "[global]\n   timeout = 60\n   retries = 1",
    "# comment\n\n[install]\nno-binary = :all:\n\n[global]\n; here\ncert = /x\n",
    "[install]\r\nfind-links =\r\n    /a\r\n    /b",
    "[global]\nextra-index-url = https://x/simple\n",
    "[global]\ntrusted-host = a\n    b\n",
]

PIP_WITH_INDEX = [
    "[global]\nindex-url = https://old/simple\ntimeout = 1\n",
    "[global]\ntimeout = 1\n  Index_URL :\n   https://old/simple",
    "[install]\nindex-url = https://old/simple\n[global]\nindex_url=https://older/simple\ntimeout=1\n",
    "[global]\n--index-url = https://old/simple\n# c\ntrusted-host = old\n",
    "[install]\nindex-url = https://old/simple\n",
    "[global]\r\nindex-url = https://old/simple\r\n",
]

UV = [
    "",
    'native-tls = true\n\n[pip]\nindex-strategy = "first-index"\n',
    '[[index]]\nname = "other"\nurl = "https://o/simple"  # c',
    "# c\r\nnative-tls = true\r\n",
    'x = """\n[[index]]\n# not a comment\n"""\n',
]

PYPROJECT = [
    "[project]\nname = 'x'\nversion = '1'\n",
    '[project]\nname = "x"\n\n[tool.uv]\npackage = true\n\n[[tool.uv.index]]\nname = "o"\nurl = "https://o"\n\n'
    '[tool.poetry]\npackage-mode = false\n[[tool.poetry.source]]\nname = "o"\nurl = "https://o"\n'
    '[tool.pdm]\n[[tool.pdm.source]]\nname = "o"\nurl = "https://o"\n[tool.x]\ny = 1',
]

HATCH = [
    "",
    'mode = "local"\n\n[publish.index.repos.other]\nurl = "https://o/"\n',
    "[publish.index]\ndisable = true",
]

PDM = ["", "check_update = false\n[python]\nuse_pyenv = true\n", '[repository.other]\nurl = "https://o/"']

NETRC = [
    "",
    "machine other login a password b",
    "machine other\n  login a\n  password b\n\ndefault login anonymous password x@y\n",
    "# note\nmacdef init\ncd /pub\nmget *\n\n",
    "machine other login a password #b\r\n",
]

SHELL = ["", "export A=1", "# profile\r\nexport B='x y'\r\n", "cat <<EOF\ntext\nEOF\n"]
