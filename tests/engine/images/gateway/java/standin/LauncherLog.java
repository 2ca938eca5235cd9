package standin;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Instant;
import java.time.LocalDateTime;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;

/**
 * IBKR's own launcher.log in the settings folder: from the start until a login succeeds, then silent.
 * Known of the real file are the form of a line and how the messages begin (bridge/login/lines.py reads
 * them); their rest, the threads, addresses, ids and hashes are invented.
 */
final class LauncherLog {
    private static final DateTimeFormatter STAMP = DateTimeFormatter.ofPattern("yyyy-MM-dd HH:mm:ss.SSS");
    private static final String RULE = "-".repeat(27);

    private final Path file;
    private boolean silent;

    LauncherLog(Path settings) {
        file = settings.resolve("launcher.log");
    }

    void started(boolean token) {
        say("INFO", "main", RULE + " IB GATEWAY RESTART " + RULE);
        say("INFO", "main", "Build 10.45.1j, Nov 1, 2026 12:00:00 PM");
        if (token) {
            say("INFO", "main", "Running in auto-restart mode");
        }
    }

    void attempt(int number) {
        say("INFO", "LauncherLoginThread", "LauncherLoginThread.runLoginWithUI()[user=standin host=198.51.100.7:4001 "
            + "loginAttempt=" + number + " session=5f3a9c10]");
    }

    /** IBKR opened an authentication; {@code type} is PWD, SOFT or TST, {@code password} that it wants one. */
    void opened(String type, boolean password, boolean soft, String factors) {
        say("INFO", "AuthReader", "NS_AUTH_START version=46 pwd=" + (password ? 1 : 0) + " soft=" + (soft ? 1 : 0)
            + " token(s)=[" + factors + "] initialTokenType=" + type + " user=standin id=77f0c2");
    }

    void challenged() {
        say("INFO", "AuthReader", "Received CHALLENGE [id=3344 198.51.100.7]");
    }

    void heartbeat() {
        say("INFO", "AuthHeartBeat", "Sent NS_HEART_BEAT: " + LocalDateTime.ofInstant(Instant.now(), ZoneOffset.UTC)
            .format(DateTimeFormatter.ofPattern("yyyyMMdd-HH:mm:ss")));
    }

    void completed(boolean secondFactor, boolean authenticated) {
        say("INFO", "AuthReader", "### onAuthenticationCompleted tokenProtocol=" + (secondFactor ? 5 : 0)
            + "; authenticated=" + authenticated);
    }

    void wrongPassword() {
        say("ERROR", "AuthReader", "AUTH_RESULT indicates wrong password");
        failed("Invalid username or password");
    }

    void failed(String why) {
        say("ERROR", "AuthReader", "Authorization failed: " + why);
    }

    void tooMany(String text) {
        say("WARN", "LauncherLoginThread", text);
    }

    void unanswered() {
        say("ERROR", "AuthTimeoutMonitor-CCP", "AuthTimeoutMonitor-CCP: Timeout!");
        say("ERROR", "LauncherLoginThread", "Authentication timeout");
    }

    void alive() {
        say("WARN", "AWT-EventQueue-0", "instance of control is not created yet");
    }

    void loggedIn() {
        say("INFO", "JTS-Login", "Switching to a new encrypted log");
        silent = true;
    }

    private synchronized void say(String level, String thread, String message) {
        if (silent) {
            return;
        }
        String line = String.format("%s %-5s [%s] - %s%n", LocalDateTime.now().format(STAMP), level, thread, message);
        try {
            Files.writeString(file, line, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
        } catch (IOException failure) {
            throw new UncheckedIOException(failure);
        }
    }
}
