package standin;

import java.nio.ByteBuffer;
import java.security.GeneralSecurityException;
import java.time.Instant;
import java.util.HashSet;
import java.util.Locale;
import java.util.Set;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/** The codes that IBKR takes: one that the scenario names, or RFC 6238's of this half minute or the last, each once. */
final class Codes {
    private static final String ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

    private final Set<String> used = new HashSet<>();

    boolean right(Scenario.Step step, String typed) {
        if (!step.name().equals("totp")) {
            return typed.equals(step.detail());
        }
        long window = Instant.now().getEpochSecond() / 30;
        boolean known = typed.equals(at(step.detail(), window)) || typed.equals(at(step.detail(), window - 1));
        return known && used.add(typed);
    }

    static String at(String seed, long window) {
        try {
            Mac mac = Mac.getInstance("HmacSHA1");
            mac.init(new SecretKeySpec(decode(seed), "HmacSHA1"));
            byte[] hash = mac.doFinal(ByteBuffer.allocate(8).putLong(window).array());
            int start = hash[hash.length - 1] & 15;
            int number = ByteBuffer.wrap(hash, start, 4).getInt() & Integer.MAX_VALUE;
            return String.format("%06d", number % 1_000_000);
        } catch (GeneralSecurityException failure) {
            throw new IllegalStateException(failure);
        }
    }

    private static byte[] decode(String seed) {
        ByteBuffer bytes = ByteBuffer.allocate(seed.length() * 5 / 8);
        int bits = 0;
        int held = 0;
        for (char letter : seed.toUpperCase(Locale.ROOT).toCharArray()) {
            held = (held << 5) | ALPHABET.indexOf(letter);
            bits += 5;
            if (bits >= 8) {
                bits -= 8;
                bytes.put((byte) (held >> bits));
                held &= (1 << bits) - 1;
            }
        }
        return bytes.array();
    }
}
