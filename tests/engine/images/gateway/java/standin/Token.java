package standin;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.time.DayOfWeek;
import java.time.Instant;
import java.time.ZoneId;
import java.time.ZonedDateTime;
import java.time.temporal.TemporalAdjusters;

/**
 * The saved session, {@code <settings>/<hash>/autorestart}: good for its user until Sunday 01:00 in
 * New York, and used up by the login that takes it.
 */
final class Token {
    private static final ZoneId NEW_YORK = ZoneId.of("America/New_York");

    private final Path settings;

    Token(Path settings) {
        this.settings = settings;
    }

    /** The folder of this user's own files: letters a to p, as IBKR's. */
    static String folderOf(String user) {
        try {
            byte[] digest = MessageDigest.getInstance("SHA-256").digest(user.getBytes(StandardCharsets.UTF_8));
            StringBuilder name = new StringBuilder();
            for (byte each : digest) {
                name.append((char) ('a' + ((each >> 4) & 15))).append((char) ('a' + (each & 15)));
            }
            return name.substring(0, 42);
        } catch (GeneralSecurityException failure) {
            throw new IllegalStateException(failure);
        }
    }

    void save(String user) throws IOException {
        renew(folderOf(user));
    }

    void renew(String name) throws IOException {
        Path folder = Files.createDirectories(settings.resolve(name));
        Files.writeString(folder.resolve("autorestart"), "issued=" + Instant.now().getEpochSecond() + "\n");
    }

    /** Whether the folder that the start names holds a good one; a good one is gone afterwards. */
    boolean take(String folder) throws IOException {
        Path file = settings.resolve(folder).resolve("autorestart");
        if (!Files.isRegularFile(file) || !file.getParent().getParent().equals(settings)) {
            return false;
        }
        String text = Files.readString(file).strip();
        if (!text.matches("issued=\\d{1,12}")) {
            return false;
        }
        ZonedDateTime now = ZonedDateTime.now(NEW_YORK);
        ZonedDateTime ends = now.with(TemporalAdjusters.previousOrSame(DayOfWeek.SUNDAY)).withHour(1).withMinute(0)
            .withSecond(0).withNano(0);
        ends = ends.isAfter(now) ? ends.minusWeeks(1) : ends;
        long issued = Long.parseLong(text.substring("issued=".length()));
        if (issued < ends.toEpochSecond() || issued > now.toEpochSecond() + 60) {
            return false;
        }
        Files.delete(file);
        return true;
    }
}
