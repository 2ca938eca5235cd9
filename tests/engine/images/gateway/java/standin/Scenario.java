package standin;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Instant;
import java.util.List;
import java.util.Locale;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * What shall happen, one step a login, and a record of what did happen. A folder of plain files, so
 * that a test can change it while the gateway runs:
 *
 * <ul>
 *   <li>{@code script}: one step a line. A login takes the first line; the last line stays. Without
 *       the file the login's name is the script, its steps joined by dots ({@code failed.twofa-5});
 *       a name that is no step lets in.
 *   <li>{@code approved}: as long as it is there, every approval that is asked for is given.
 *   <li>{@code do}: a command for a gateway that runs (see {@link Gateway}); taken away when read.
 *   <li>{@code record}: appended, a line for each thing that IBKR's side saw: {@code TIME WORD DETAIL}.
 * </ul>
 *
 * Steps: {@code ok}; {@code slow-N} (after N s); {@code twofa} or {@code twofa-N} (a push, approved
 * after N s); {@code unanswered-N} (the dialog closes after N s); {@code frame-N} (the push asked for
 * inside the login frame); {@code device} (a list first, then a push) or {@code device-N};
 * {@code code-DIGITS}, {@code totp-SEED} (a code to type), {@code halfcode-DIGITS} (somebody has begun to type another),
 * {@code unfocused-DIGITS} (another window has the keys); {@code card-DIGITS};
 * {@code refused} (password or token), {@code failed}, {@code error}, {@code unreachable}, {@code passkey},
 * {@code multiple}, {@code locked-SECONDS}, {@code silent-N} (no answer for N s), {@code taken},
 * {@code takentwice}, {@code messages}, {@code expired}, {@code blocked} (a window nobody knows),
 * {@code crash-N}; and, met before a login is made: {@code nodialog}, {@code entry} (the program
 * cannot be started), {@code tokenrefused}, {@code tokenfailed}, {@code tokenunreachable}.
 */
final class Scenario {
    private static final Pattern STEP = Pattern.compile("([a-z]+)(?:-([A-Za-z0-9]+))?");
    private static final List<String> NAMES = List.of("ok", "slow", "twofa", "unanswered", "frame", "device", "code",
        "halfcode", "unfocused", "totp", "card", "refused", "failed", "error", "unreachable", "passkey", "multiple", "locked", "silent",
        "taken", "takentwice", "messages", "expired", "blocked", "crash", "nodialog", "entry", "tokenrefused",
        "tokenfailed", "tokenunreachable");

    /** One step: its name, and what stands behind the hyphen ("" without one). */
    record Step(String name, String detail) {
        int number(int otherwise) {
            return detail.isEmpty() ? otherwise : Integer.parseInt(detail);
        }

        /** Whether it says what becomes of a saved token, or of the start itself. */
        boolean beforeLogin() {
            return name.startsWith("token") || name.equals("nodialog") || name.equals("entry");
        }
    }

    private final Path folder;

    Scenario(Path folder) {
        this.folder = folder;
        try {
            Files.createDirectories(folder);
        } catch (IOException failure) {
            throw new UncheckedIOException(failure);
        }
    }

    /** The folder that GANGWAY_STANDIN names, else one in /tmp; one for each mode. */
    static Scenario ofThisSession() {
        String base = System.getenv().getOrDefault("GANGWAY_STANDIN", "/tmp/standin");
        String mode = firstOf("IBC_TRADING_MODE", "TRADING_MODE");
        return new Scenario(Path.of(base, mode.isEmpty() ? "paper" : mode.toLowerCase(Locale.ROOT)));
    }

    static String firstOf(String... names) {
        for (String name : names) {
            String value = System.getenv(name);
            if (value != null && !value.isEmpty()) {
                return value;
            }
        }
        return "";
    }

    /** The step that comes next, which stays. */
    Step peek() {
        List<String> lines = lines();
        Matcher found = STEP.matcher(lines.isEmpty() ? "ok" : lines.get(0).strip());
        if (!found.matches() || !NAMES.contains(found.group(1))) {
            return new Step("ok", "");
        }
        return new Step(found.group(1), found.group(2) == null ? "" : found.group(2));
    }

    /** The step that comes next; it is taken away unless it is the last one. */
    Step take() {
        Step step = peek();
        List<String> lines = lines();
        if (lines.size() > 1) {
            write("script", String.join("\n", lines.subList(1, lines.size())) + "\n");
        }
        return step;
    }

    private List<String> lines() {
        String text = read("script");
        if (text.isBlank()) {
            text = firstOf("IBC_USERID", "TWS_USERID").replace('.', '\n');
        }
        return text.lines().filter(line -> !line.isBlank()).toList();
    }

    boolean approved() {
        return Files.exists(folder.resolve("approved")) || Files.exists(Path.of("/tmp/approved"));
    }

    /** The command that somebody left for the running gateway, or "". */
    String command() {
        String text = read("do").strip();
        if (!text.isEmpty()) {
            try {
                Files.deleteIfExists(folder.resolve("do"));
            } catch (IOException failure) {
                throw new UncheckedIOException(failure);
            }
        }
        return text;
    }

    synchronized void record(String word, String detail) {
        try {
            Files.writeString(folder.resolve("record"), Instant.now() + " " + word + " " + detail + "\n",
                StandardOpenOption.CREATE, StandardOpenOption.APPEND);
        } catch (IOException failure) {
            throw new UncheckedIOException(failure);
        }
    }

    private String read(String name) {
        try {
            Path file = folder.resolve(name);
            return Files.exists(file) ? Files.readString(file) : "";
        } catch (IOException failure) {
            return "";
        }
    }

    private void write(String name, String text) {
        try {
            Files.writeString(folder.resolve(name), text);
        } catch (IOException failure) {
            throw new UncheckedIOException(failure);
        }
    }
}
