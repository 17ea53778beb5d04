import "./call.test.mjs";
import "./check_page.test.mjs";
import "./stream.test.mjs";
import "./voice.test.mjs";
