// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice The paper's own contract, to be measured beside `DataTransfer`: written from Listing 1 of "Blockchain-Based
/// platform for Distribution AI", which has its variables, modifiers and signatures. The bodies follow from those and
/// from Table I: `provideData` stores three words there, as an expiration that begins anew makes it do.
/// @dev A contract for each trade. The constants of the paper's compilation are given at construction, and its
/// `transfer`, which the compiler is about to give up, is written out.
contract PaperDataTransfer {
    address public authority;
    uint256 internal duration;
    address public dataConsumer = msg.sender;
    address public dataProvider;
    bytes32 public ipfsSchemaAddress;
    bytes32 public ipfsConsumerPubKeyAddress;
    bytes32 public ipfsEncryptedAesKeyAddress;
    bytes32 public ipfsDataAddress;
    uint256 public expirationTime;
    bool public requestedForcefulRefund = false;
    bool public requestedForcefulSettle = false;

    modifier onlyBy(address account) {
        require(msg.sender == account);
        _;
    }

    modifier onlyAfter(uint256 time) {
        require(block.timestamp > time);
        _;
    }

    modifier onlyBefore(uint256 time) {
        require(block.timestamp < time);
        _;
    }

    modifier etherProvided() {
        require(msg.value > 0);
        _;
    }

    modifier dataProvidedByProvider(bool isProvided) {
        require((ipfsDataAddress != 0) == isProvided);
        _;
    }

    constructor(address authority_, uint256 duration_) {
        authority = authority_;
        duration = duration_;
    }

    function initTransaction(address dataProvider_, bytes32 ipfsSchemaAddress_, bytes32 ipfsConsumerPubKeyAddress_)
        public
        payable
        onlyBy(dataConsumer)
        etherProvided
    {
        dataProvider = dataProvider_;
        ipfsSchemaAddress = ipfsSchemaAddress_;
        ipfsConsumerPubKeyAddress = ipfsConsumerPubKeyAddress_;
        expirationTime = block.timestamp + duration;
    }

    function provideData(bytes32 ipfsEncryptedAesKeyAddress_, bytes32 ipfsDataAddress_)
        public
        onlyBy(dataProvider)
        onlyBefore(expirationTime)
    {
        ipfsEncryptedAesKeyAddress = ipfsEncryptedAesKeyAddress_;
        ipfsDataAddress = ipfsDataAddress_;
        expirationTime = block.timestamp + duration;
    }

    function cancel() public onlyBy(dataConsumer) dataProvidedByProvider(false) onlyAfter(expirationTime) {
        _transfer(dataConsumer);
    }

    function verifiedData() public onlyBy(dataConsumer) dataProvidedByProvider(true) {
        _transfer(dataProvider);
    }

    function requestForcefulRefund() public onlyBy(dataConsumer) {
        requestedForcefulRefund = true;
    }

    function requestForcefulSettle() public onlyBy(dataProvider) dataProvidedByProvider(true) {
        requestedForcefulSettle = true;
    }

    function executeForcefulRefund() public onlyBy(authority) {
        require(requestedForcefulRefund);
        _transfer(dataConsumer);
    }

    function executeForcefulSettle() public onlyBy(authority) {
        require(requestedForcefulSettle);
        _transfer(dataProvider);
    }

    function _transfer(address to) private {
        (bool paid,) = to.call{value: address(this).balance, gas: 0}("");
        require(paid);
    }
}
