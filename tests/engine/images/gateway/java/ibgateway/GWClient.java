package ibgateway;

import java.nio.file.Path;
import standin.Gateway;

/** The class that both login controllers start (IBC: IbcTws.startGateway; ibcontroller: its launcher's entry class). */
public final class GWClient {
    private GWClient() {}

    /** Takes the settings folder, as both controllers give it. */
    public static void main(String[] arguments) throws Exception {
        new Gateway(Path.of(arguments.length > 0 ? arguments[0] : System.getProperty("user.dir"))).start();
    }
}
