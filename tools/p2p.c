/* p2p: the command a person uses. Exit codes: 0 done, 1 failed, 2 wrong usage. */
#include "p2p_tool.h"

#include <string.h>

static const char help_all[] =
    "p2p: dial a public key, from anything with a UDP socket\n"
    "\n"
    "usage: p2p COMMAND ...\n"
    "\n"
    "  keygen FILE                  make a key\n"
    "  id FILE                      show the NodeId of a key\n"
    "  serve DIR                    serve the files of a directory, print a ticket\n"
    "  get TICKET PATH              fetch what a peer serves\n"
    "  call METHOD TICKET PATH      send any request\n"
    "  ping TICKET                  measure the round trip\n"
    "  sim FILE.scn                 run a scenario in the simulator\n"
    "\n"
    "'p2p COMMAND --help' tells more of each; 'p2p --version' the version.\n"
    "Exit codes: 0 done, 1 failed, 2 wrong usage. Errors go to stderr.\n";

static const char help_keygen[] = "usage: p2p keygen FILE [--json]\n"
                                  "\n"
                                  "Makes a new key, writes it to FILE (mode 0600; a file that is "
                                  "there stays as it is) and prints\n"
                                  "its NodeId, which others dial.\n"
                                  "\n"
                                  "  --json   print {\"id\", \"hex\", \"short\"}\n";

static const char help_id[] =
    "usage: p2p id FILE [--json]\n"
    "\n"
    "Prints the NodeId of the key in FILE: in z-base-32, in hex, and its short form.\n"
    "\n"
    "  --json   print {\"id\", \"hex\", \"short\"}\n";

static const char help_serve[] =
    "usage: p2p serve DIR [--key FILE] [--listen ADDR:PORT] [--allow NODEID]... [--json] [-v]\n"
    "\n"
    "Serves the regular files of DIR until Ctrl-C. The first line on stdout is the ticket: give it "
    "to\n"
    "whoever shall connect. To all others the node is silent.\n"
    "\n"
    "  GET /tracks         the list, as JSON: name, size, type\n"
    "  GET /tracks/NAME    one file, whole or by a range: header; dot files and links are not "
    "served\n"
    "  GET /ping           an empty answer\n"
    "\n"
    "  -k, --key FILE          the key of 'p2p keygen'; without it a fresh one, and the ticket is\n"
    "                          good for this run only\n"
    "  -l, --listen ADDR:PORT  where to listen, as 0.0.0.0:8800 or [::1]:8800; without it any "
    "port,\n"
    "                          IPv4 and IPv6\n"
    "      --allow NODEID      only this peer may connect; repeatable\n"
    "      --json              behind the ticket a line of JSON, and one with all gauges at the "
    "end\n"
    "  -v, --verbose           tell of connections and requests on stderr\n";

static const char help_get[] =
    "usage: p2p get TICKET PATH [-o FILE] [--key FILE] [--header 'NAME: VALUE']... [--timeout S] "
    "[--json]\n"
    "\n"
    "Fetches PATH, as /tracks or /tracks/song.wav, to stdout or FILE. %XX in PATH is one byte, as "
    "in a\n"
    "URL (%25 for a percent sign, %3f for a question mark); the first ? begins the query.\n"
    "Exit code 1 unless the status is 2xx and the body came whole.\n"
    "\n"
    "  -o, --output FILE   write there: under a temporary name beside it, renamed when all is "
    "here\n"
    "  -k, --key FILE      who we are; without it a fresh key\n"
    "  -H, --header ...    one more header, as 'range: bytes=0-99'; repeatable\n"
    "      --timeout S     seconds to connect, 30\n"
    "      --json          say what was fetched as JSON: on stdout with -o, else on stderr\n";

static const char help_call[] =
    "usage: p2p call METHOD TICKET PATH [--body FILE|-] [--key FILE] [--header 'NAME: VALUE']...\n"
    "                [--timeout S] [--json]\n"
    "\n"
    "Sends a request: METHOD is GET, POST, PUT, DELETE or PATCH, PATH as for 'p2p get'. The body "
    "of\n"
    "the answer goes to stdout; a status other than 2xx to stderr, with exit code 1.\n"
    "\n"
    "      --body FILE     the body of the request; - is stdin\n"
    "  -k, --key FILE      who we are; without it a fresh key\n"
    "  -H, --header ...    one more header; repeatable\n"
    "      --timeout S     seconds to connect, 30\n"
    "      --json          print status, headers and body as one JSON object (body up to 1 MiB)\n";

static const char help_ping[] =
    "usage: p2p ping TICKET [-c N] [-i MS] [--key FILE] [--timeout S] [--json]\n"
    "\n"
    "Connects and measures the round trip of small requests (GET /ping; any answer counts).\n"
    "\n"
    "  -c, --count N       how many, 4\n"
    "  -i, --interval MS   milliseconds from one to the next, 1000\n"
    "  -k, --key FILE      who we are; without it a fresh key\n"
    "      --timeout S     seconds to connect, 30\n"
    "      --json          the figures as one JSON object\n";

static const char help_sim[] =
    "usage: p2p sim FILE.scn|--random [--seed N] [--print] [--json]\n"
    "               [--pcap F] [--qlog F] [--html F]\n"
    "\n"
    "Runs a scenario in the simulator: a network of nodes, what they send each other, what goes "
    "wrong,\n"
    "and what is expected of them. The same file and seed give the same digest on every machine.\n"
    "FILE - is stdin. docs/SCENARIOS.md describes the files, examples/*.scn are some.\n"
    "Exit code 1 when the file has errors or an expectation was not met, each said with its line.\n"
    "\n"
    "      --seed N     instead of the file's\n"
    "      --random     draws a scenario from --seed N and runs it\n"
    "      --print      with --random: print it as a file, and do not run it\n"
    "      --pcap F     write what went over the network as a capture for Wireshark (pcapng)\n"
    "      --qlog F     write what the nodes saw and did as qlog, JSON text sequences\n"
    "      --html F     write a page that plays the run: graph, datagrams, charts, events\n"
    "      --json       the summary as one JSON object\n";

static const struct command {
    const char *name, *help, *options, *words;
    unsigned word_count;
    int (*run)(const tool_args *args);
} commands[] = {
    {"keygen", help_keygen, "j", "FILE", 1, tool_keygen},
    {"id", help_id, "j", "FILE", 1, tool_id},
    {"serve", help_serve, "klajv", "DIR", 1, tool_serve},
    {"get", help_get, "koHtj", "TICKET PATH", 2, tool_get},
    {"call", help_call, "kbHtj", "METHOD TICKET PATH", 3, tool_call},
    {"ping", help_ping, "kcitj", "TICKET", 1, tool_ping},
    {"sim", help_sim, "rpsjPQM", "FILE", 1, tool_sim},
};

static const struct command *command_find(const char *name) {
    size_t i;
    for (i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

/* What was printed must have arrived: a full disk behind stdout is a failure too. */
static int finish(const char *command, int code) {
    if ((fflush(stdout) != 0 || ferror(stdout)) && code == TOOL_OK)
        return tool_fail(command, "cannot write to stdout: is the disk full, or its reader gone?");
    return code;
}

static void print_id(const p2p_id *id, bool as_json) {
    char text[P2P_ID_TEXT_SIZE], hex[65], brief[11];
    json j;
    size_t i;
    (void)p2p_id_text(id, text);
    (void)p2p_id_short(id, brief);
    for (i = 0; i < 32; i++)
        (void)snprintf(hex + 2 * i, 3, "%02x", id->bytes[i]);
    if (!as_json) {
        (void)printf("z-base-32  %s\nhex        %s\nshort      %s\n", text, hex, brief);
        return;
    }
    json_open(&j, stdout);
    json_begin(&j, NULL, '{');
    json_string(&j, "id", text);
    json_string(&j, "hex", hex);
    json_string(&j, "short", brief);
    json_end(&j, '}');
    json_line(&j);
}

int tool_keygen(const tool_args *args) {
    p2p_crypto crypto;
    p2p_random random;
    p2p_key key;
    p2p_error_detail why;
    int rc;
    memset(&why, 0, sizeof why);
    if (p2p_sodium_crypto(&crypto) < 0 || p2p_posix_random(&random) < 0 ||
        p2p_key_generate(&crypto, &random, &key) < 0)
        return tool_fail(args->command, "no key: the system gives no random bytes, or libsodium "
                                        "does not start");
    rc = p2p_posix_key_save(args->words[0], &key, &why);
    if (rc < 0) {
        p2p_wipe(&key, sizeof key);
        return tool_fail(args->command, "cannot write the key to %s: %s", args->words[0],
                         tool_why(&why, args->words[0], rc));
    }
    print_id(&key.id, args->json);
    p2p_wipe(&key, sizeof key);
    return TOOL_OK;
}

int tool_id(const tool_args *args) {
    p2p_key key;
    int rc = tool_key_load(args->command, args->words[0], &key);
    if (rc != TOOL_OK)
        return rc;
    print_id(&key.id, args->json);
    p2p_wipe(&key, sizeof key);
    return TOOL_OK;
}

static int run(const struct command *c, int argc, char **argv) {
    static tool_args args;
    unsigned word_count;
    int rc = tool_args_parse(&args, c->name, c->options, argc, argv);
    if (rc != TOOL_OK)
        return rc;
    if (args.help) {
        (void)fputs(c->help, stdout);
        return finish(c->name, TOOL_OK);
    }
    word_count = c->word_count - (args.random ? 1 : 0); /* then no file is read */
    if (args.word_count != word_count)
        return tool_usage(c->name, "%s: expected %s, got %u word%s",
                          args.word_count < word_count ? "something is missing" : "too many words",
                          args.random ? "no file with --random" : c->words, args.word_count,
                          args.word_count == 1 ? "" : "s");
    return finish(c->name, c->run(&args));
}

int main(int argc, char **argv) {
    const struct command *c;
    if (argc < 2)
        return tool_usage(NULL, "no command given");
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        (strcmp(argv[1], "help") == 0 && argc == 2)) {
        (void)fputs(help_all, stdout);
        return finish(NULL, TOOL_OK);
    }
    if (strcmp(argv[1], "--version") == 0) {
        (void)printf("p2p %u.%u.%u, wire version %u\n", p2p_version() >> 16 & 0xffu,
                     p2p_version() >> 8 & 0xffu, p2p_version() & 0xffu, P2P_WIRE_VERSION);
        return finish(NULL, TOOL_OK);
    }
    c = command_find(argv[1]);
    if (!c)
        return tool_usage(NULL, "there is no command '%s'", argv[1]);
#ifdef P2P_MBEDTLS_KEYLOG
    if (tool_keylog() != TOOL_OK)
        return TOOL_FAILED;
#endif
    return run(c, argc - 2, argv + 2);
}
